"""What a plan predicts beside what then happens: .venv/bin/python bench/plan.py [--runtime docker]

Each round plans and then carries out every change: of an app with nothing open at it, of one whose replicas are drained
of slow requests, and of one that goes blue-green, for which HAProxy has to be reloaded. The first round has nothing but
the first deploy, of all replicas at once, to reckon from, and is shown by itself. Limit: the prediction is within 20 %
of what happens, or within 0.1 s where that is more, median of the rounds after the first; exit code 1 where one change
is over it."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import statistics
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from figures import moment
from rollout_overhead import python

from rota.testing.docker import HELLO, docker_engine
from rota.testing.load import LoadPlan, LoadProcess
from rota.testing.server import RunningServer

EXAMPLE = Path(__file__).parents[1] / "examples" / "hello"
LIMIT, UNSEEN = 0.2, 0.1  # of what happens; seconds that nobody sees
DEPLOY = "deploy"


@dataclass(frozen=True)
class Subject:
    """An app and the changes of it, by their names; its medians are its own. In their words ``{more}`` stands for one
    replica more, ``{memory}`` for another limit each round. ``slow``: so many requests of a second are begun at it each
    second."""

    name: str
    changes: Mapping[str, Sequence[str]]
    keys: Mapping[str, Any] = field(default_factory=dict)
    slow: float = 0.0


SUBJECTS = (
    Subject(
        "hello",
        {
            "restart, start-first": ["restart", "hello"],
            "restart, stop-first": ["restart", "hello", "--order", "stop-first"],
            "restart, in place": ["restart", "hello", "--order", "in-place"],
            "restart, delay 2 s": ["restart", "hello", "--delay", "2s"],
            "restart, simultaneous": ["restart", "hello", "--simultaneous"],
            "restart, parallelism 2": ["restart", "hello", "--parallelism", "2"],
            "redeploy": ["redeploy", "hello"],
            "limits, start-first": ["limits", "hello", "--memory", "{memory}", "--order", "start-first"],
            "scale, one more": ["scale", "hello={more}"],
            "scale, one less": ["scale", "hello={replicas}"],
            "deploy": [DEPLOY],
            "rollback": ["rollback", "hello"],
        },
    ),
    Subject("drained", {"restart, drained": ["restart", "drained"]}, slow=20.0),
    Subject("teal", {"deploy, blue-green": [DEPLOY]}, {"deployment_strategy": "blue-green", "keep_old": 0}),
)
Found = dict[str, list[tuple[float, float]]]
"""Of each change, round by round, the seconds predicted and those it took."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4, help="the first one included")
    parser.add_argument("--boot", type=float, default=0.0, help="seconds that the app takes beyond its own start")
    parser.add_argument("--runtime", choices=["process", "docker"], default="process", help="docker: as root")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    if given.runtime == "process":
        keys = {"command": [python(), "app.py"]}
        found = asyncio.run(_measure(given, keys))
    else:
        with docker_engine() as engine:
            engine.import_hello(EXAMPLE)
            found = asyncio.run(_measure(given, {"image": HELLO}, "--runtime", "docker", "--docker-host", engine.host))
    results = _results(found)
    print(json.dumps(results) if given.json else _report(results))
    return 0 if results["within_limit"] else 1


async def _measure(given: argparse.Namespace, keys: Mapping[str, Any], *options: str) -> Found:
    found: Found = {}
    async with RunningServer(None, "--reload-interval", "10s", *options) as server:
        for subject in SUBJECTS:
            source = server.directory / subject.name
            shutil.copytree(EXAMPLE, source)
            spec = {"name": subject.name, "replicas": given.replicas, "health_check_path": "/health"}
            spec |= {**keys, **subject.keys}
            _release(source, spec, 0, given.boot)
            await server.ok("deploy", cwd=source)
            async with _slow(server, subject):
                for number in range(1, given.rounds + 1):
                    for name, pattern in subject.changes.items():
                        words = _filled(pattern, given.replicas, number)
                        if words == [DEPLOY]:
                            _release(source, spec, number, given.boot)
                        found.setdefault(name, []).append(await _one(server, source, words))
    return found


def _filled(pattern: Sequence[str], replicas: int, number: int) -> list[str]:
    return [word.format(replicas=replicas, more=replicas + 1, memory=f"{256 + number}MiB") for word in pattern]


@asynccontextmanager
async def _slow(server: RunningServer, subject: Subject) -> AsyncIterator[None]:
    if not subject.slow:
        yield
        return
    host = f"{subject.name}.localhost"
    load = LoadPlan(server.url, host, rate=subject.slow, slow_share=1.0, slow_seconds=1.0, post_share=0.0)
    async with LoadProcess(load) as process:
        await process.wait_started()
        yield


def _release(source: Path, spec: Mapping[str, Any], number: int, boot: float) -> None:
    values = {"HELLO_VERSION": str(number), "HELLO_BOOT_SECONDS": str(boot)}
    written = {**spec, "env": [{"name": name, "value": value} for name, value in values.items()]}
    (source / "rota.yaml").write_text(yaml.safe_dump(written))


async def _one(server: RunningServer, source: Path, words: Sequence[str]) -> tuple[float, float]:
    asked = [] if words == [DEPLOY] else words
    plan = json.loads((await server.ok("plan", *asked, "--json", cwd=source)).out)
    done = json.loads((await server.ok(*words, "--json", cwd=source)).out)
    return plan["predicted_seconds"], moment(done["finished_at"]) - moment(done["started_at"])


def _results(found: Mapping[str, list[tuple[float, float]]]) -> dict[str, Any]:
    changes = {}
    for name, rounds in found.items():
        ratios = [predicted / real for predicted, real in rounds]
        middle = statistics.median(ratios[1:] or ratios)
        off = statistics.median(abs(predicted - real) for predicted, real in rounds[1:] or rounds)
        changes[name] = {
            "first_ratio": ratios[0],
            "ratios": ratios[1:],
            "median": middle,
            "within_limit": abs(middle - 1) <= LIMIT or off <= UNSEEN,
            "predicted_s": [predicted for predicted, _ in rounds],
            "real_s": [real for _, real in rounds],
        }
    within = all(change["within_limit"] for change in changes.values())
    return {"limit": LIMIT, "within_limit": within, "changes": changes}


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
