"""What a sequential restart costs beyond its replicas' own times: .venv/bin/python bench/rollout_overhead.py

Bare lives of the same app and restarts by the server alternate, round by round. Own times are start (to the first
connection accepted), readiness (rise health checks, start_interval apart), stop and remove; nothing is open, so that
there is no drain. Limit: 50 ms a replica, median of 5 rounds."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from bare import BareReplicas, OwnTimes
from figures import Spread, moment, overhead_each, times_between

from rota.core.healthcheck import Check, Kind
from rota.testing.server import RunningServer

HELLO = Path(__file__).parents[1] / "examples" / "hello"
PYTHON = "/usr/bin/python3"
LIMIT_MS = 50.0
CHECK = Check(Kind.HTTP, "/health")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given.replicas, given.rounds))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(replicas: int, rounds: int) -> dict[str, Any]:
    async with RunningServer() as server:
        source = hello(server.directory, replicas)
        await server.ok("deploy", cwd=source)
        async with BareReplicas([python(), "app.py"], source, CHECK) as bare:
            await bare.one()  # the disk's caches are warm from here on
            await rolled(server)
            results = [([await bare.one() for _ in range(replicas)], await rolled(server)) for _ in range(rounds)]
    return _results(replicas, results)


def hello(directory: Path, replicas: int) -> Path:
    """examples/hello, its command without whatever stands before Python in PATH."""
    source = directory / "hello"
    shutil.copytree(HELLO, source)
    spec = yaml.safe_load((source / "rota.yaml").read_text())
    spec |= {"replicas": replicas, "command": [python(), "app.py"]}
    (source / "rota.yaml").write_text(yaml.safe_dump(spec))
    return source


def python() -> str:
    """The system's own, where there is one: no version switcher's script stands before it."""
    return PYTHON if Path(PYTHON).exists() else sys.executable


async def rolled(server: RunningServer) -> Mapping[str, Any]:
    """One sequential restart without delay, over the API; the rollout with its steps."""
    begun = await asyncio.to_thread(_post, server, {"kind": "restart", "policy": {"delay": 0}})
    seen: dict[str, Any] = {}

    async def ended() -> bool:
        seen.update(await server.get(f"/api/v1/rollouts/{begun['id']}"))
        return seen["finished_at"] is not None

    async with asyncio.timeout(120):
        while not await ended():
            await asyncio.sleep(0.2)  # rarely, so that the question itself costs the rollout nothing
    if seen["phase"] != "succeeded":
        raise RuntimeError(f"the restart ended as {seen['phase']}: {seen['detail']}")
    return seen


def _post(server: RunningServer, order: Mapping[str, Any]) -> Any:
    token = (server.directory / "state/admin.token").read_text().strip()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(
        f"{server.api}/api/v1/apps/hello/rollouts", json.dumps(order).encode(), headers, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def _results(replicas: int, rounds: list[tuple[list[OwnTimes], Mapping[str, Any]]]) -> dict[str, Any]:
    bare = [1000 * sum(own.total for own in lives) for lives, _ in rounds]
    rolled = [1000 * (moment(seen["finished_at"]) - moment(seen["started_at"])) for _, seen in rounds]
    overheads = [overhead_each(whole, own, replicas) for whole, own in zip(rolled, bare, strict=True)]
    lives = [own for some, _ in rounds for own in some]
    between: dict[str, list[float]] = {}
    for _, seen in rounds:
        for name, values in times_between(seen["steps"], seen["finished_at"]).items():
            between.setdefault(name, []).extend(values)
    return {
        "replicas": replicas,
        "rounds": len(rounds),
        "overhead_ms_a_replica": asdict(Spread.of(overheads)),
        "limit_ms": LIMIT_MS,
        "within_limit": Spread.of(overheads).median <= LIMIT_MS,
        "restart_ms": asdict(Spread.of(rolled)),
        "bare_ms": asdict(Spread.of(bare)),
        "ratio": Spread.of(rolled).median / Spread.of(bare).median,
        "own_ms": {
            name: asdict(Spread.of([1000 * getattr(own, name) for own in lives]))
            for name in ("start", "readiness", "stop", "remove")
        },
        "between_steps_ms": {
            name: asdict(Spread.of(values)) | {"times": len(values)} for name, values in between.items()
        },
    }


def _report(results: Mapping[str, Any]) -> str:
    def line(name: str, spread: Mapping[str, float]) -> str:
        values = {key: spread[key] for key in ("median", "p90", "least", "most")}
        return f"  {name:34} {Spread(**values)}"

    verdict = "within" if results["within_limit"] else "OVER"
    return "\n".join(
        [
            f"{results['replicas']} replicas, {results['rounds']} rounds of bare lives and a restart in turns",
            line("restart, all replicas", results["restart_ms"]),
            line("bare, all replicas", results["bare_ms"]),
            *(line(f"  bare {name}, one replica", spread) for name, spread in results["own_ms"].items()),
            f"  restart / bare                     {results['ratio']:.3f}",
            "between the rollout's steps:",
            *(line(f"{name} x{spread['times']}", spread) for name, spread in results["between_steps_ms"].items()),
            line("overhead, one replica", results["overhead_ms_a_replica"]) + f"   {verdict} {LIMIT_MS:g} ms",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
