"""What a plan predicts beside what then happens: .venv/bin/python bench/plan.py

Each round plans and then carries out a restart start-first, stop-first and in place, and a deploy of a new release. The
first round has nothing but the first deploy, of all replicas at once, to reckon from, and is shown by itself. Limit:
the prediction is within 20 % of what happens, median of the rounds after the first."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from figures import moment
from rollout_overhead import hello

from rota.testing.server import RunningServer

LIMIT = 0.2
CHANGES = {
    "restart, start-first": ["restart", "hello"],
    "restart, stop-first": ["restart", "hello", "--order", "stop-first"],
    "restart, in place": ["restart", "hello", "--order", "in-place"],
    "deploy": ["deploy"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4, help="the first one included")
    parser.add_argument("--boot", type=float, default=0.0, help="seconds that the app takes beyond its own start")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = _results(asyncio.run(_measure(given.replicas, given.rounds, given.boot)))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(replicas: int, rounds: int, boot: float) -> dict[str, list[tuple[float, float]]]:
    """Of each change, round by round, the seconds predicted and those it took."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in CHANGES}
    async with RunningServer() as server:
        source = hello(server.directory, replicas)
        _release(source, 0, boot)
        await server.ok("deploy", cwd=source)
        for number in range(1, rounds + 1):
            for name, words in CHANGES.items():
                if words == ["deploy"]:
                    _release(source, number, boot)
                found[name].append(await _one(server, source, words))
    return found


def _release(source: Path, number: int, boot: float) -> None:
    spec = yaml.safe_load((source / "rota.yaml").read_text())
    values = {"HELLO_VERSION": str(number), "HELLO_BOOT_SECONDS": str(boot)}
    spec["env"] = [{"name": name, "value": value} for name, value in values.items()]
    (source / "rota.yaml").write_text(yaml.safe_dump(spec))


async def _one(server: RunningServer, source: Path, words: list[str]) -> tuple[float, float]:
    asked = [] if words == ["deploy"] else words
    plan = json.loads((await server.ok("plan", *asked, "--json", cwd=source)).out)
    done = json.loads((await server.ok(*words, "--json", cwd=source)).out)
    return plan["predicted_seconds"], moment(done["finished_at"]) - moment(done["started_at"])


def _results(found: Mapping[str, list[tuple[float, float]]]) -> dict[str, Any]:
    changes = {}
    for name, rounds in found.items():
        ratios = [predicted / real for predicted, real in rounds]
        middle = statistics.median(ratios[1:] or ratios)
        changes[name] = {
            "first_ratio": ratios[0],
            "ratios": ratios[1:],
            "median": middle,
            "within_limit": abs(middle - 1) <= LIMIT,
            "predicted_s": [predicted for predicted, _ in rounds],
            "real_s": [real for _, real in rounds],
        }
    return {"limit": LIMIT, "changes": changes}


def _report(results: Mapping[str, Any]) -> str:
    lines = [f"{'predicted / real':22} {'first':>6} {'median':>7}   then, round by round"]
    for name, change in results["changes"].items():
        ratios = " ".join(f"{ratio:.2f}" for ratio in change["ratios"])
        real = statistics.median(change["real_s"])
        verdict = "within" if change["within_limit"] else "OVER"
        lines.append(
            f"{name:22} {change['first_ratio']:6.2f} {change['median']:7.2f}   {ratios}"
            f"   (took {real:.2f} s)   {verdict} {LIMIT:.0%}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
