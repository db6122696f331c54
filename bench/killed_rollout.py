"""How much longer a rollout takes when the daemon is killed in it: .venv/bin/python bench/killed_rollout.py

A sequential restart is let through, then made again once for each of its steps with the daemon ended by SIGKILL right
after that step is on record and started again at once. Limit: 10 s longer than one that was not killed."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from figures import moment
from rollout_overhead import hello, rolled

from rota.testing.faults import VARIABLE
from rota.testing.server import RunningServer, ServerBroken

LIMIT = 10.0  # seconds
STEPS = (
    *("BeginRollout", "TakeSlot", "StartReplica", "EnableServer", "DisableServer", "StopReplica", "FinishSlot"),
    *("RemoveServer", "RemoveReplica", "FinishRollout"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="kills at each step, and restarts without one")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given.replicas, given.rounds))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(replicas: int, rounds: int) -> dict[str, Any]:
    async with RunningServer() as server:
        source = hello(server.directory, replicas)
        await server.ok("deploy", cwd=source)
        await rolled(server)
        plain, killed = [], {step: list[float]() for step in STEPS}
        for _ in range(rounds):
            plain.append(_seconds(await rolled(server)))
            for step in STEPS:
                killed[step].append(_seconds(await _killed_at(server, step)))
    return {"plain_s": plain, "killed_s": killed, "limit_s": LIMIT}


async def _killed_at(server: RunningServer, step: str) -> Mapping[str, Any]:
    """The restart, once it has ended."""
    await server.kill()
    with suppress(ServerBroken):
        await server.start(**{VARIABLE: f"recorded:{step}"})
    begun = await server.cli("restart", "hello", "--detach")
    if await server.ended() != -9:
        raise RuntimeError(f"{step} was not reached\n{begun.err}")
    await server.start()
    newest: dict[str, Any] = {}

    async def ended() -> bool:
        newest.update((await server.get("/api/v1/rollouts?app=hello&limit=1"))["rollouts"][0])
        return newest["finished_at"] is not None

    await server.until(ended, timeout=120)
    return newest


def _seconds(rollout: Mapping[str, Any]) -> float:
    if rollout["phase"] != "succeeded":
        raise RuntimeError(f"{rollout['id']} ended as {rollout['phase']}: {rollout['detail']}")
    return moment(rollout["finished_at"]) - moment(rollout["started_at"])


def _report(results: Mapping[str, Any]) -> str:
    plain = statistics.median(results["plain_s"])
    lines = [f"not killed: median {plain:.2f} s of {len(results['plain_s'])}"]
    longest = 0.0
    for step, taken in results["killed_s"].items():
        more = [one - plain for one in taken]
        longest = max(longest, *more)
        lines.append(f"killed at {step:16} {statistics.median(more):+6.2f} s (most {max(more):+.2f})")
    lines.append(f"longest {longest:+.2f} s   {'within' if longest <= results['limit_s'] else 'OVER'} {LIMIT:g} s")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
