"""Wall time of the commands that people wait for, whole processes: .venv/bin/python bench/cli_times.py

Taken in turns with a Python that does nothing, which shows what the machine itself takes at that moment. Limits:
rota --version 80 ms, rota ps 250 ms."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Spread

from rota.testing.server import RunningServer

HELLO = Path(__file__).parents[1] / "examples" / "hello"
PYTHON = [sys.executable, "-c", "pass"]
ROTA = [sys.executable, "-m", "rota"]
COMMANDS = {
    "python -c pass": PYTHON,
    "rota --version": [*ROTA, "--version"],
    "rota ps hello": [*ROTA, "ps", "hello"],
    "rota ls": [*ROTA, "ls"],
}
LIMITS_MS = {"rota --version": 80.0, "rota ps hello": 250.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given.times))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(times: int) -> dict[str, Any]:
    async with RunningServer() as server:
        source = server.directory / "hello"
        shutil.copytree(HELLO, source)
        await server.ok("deploy", cwd=source)
        taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for round_ in range(times + 1):
            for name, argv in COMMANDS.items():
                milliseconds = await asyncio.to_thread(_time, argv, server.environment)
                if round_:  # the first one fills the caches
                    taken[name].append(milliseconds)
    return {name: asdict(Spread.of(values)) | {"limit_ms": LIMITS_MS.get(name)} for name, values in taken.items()}


def _time(argv: list[str], environment: Mapping[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(argv, env=dict(environment), check=True, stdout=subprocess.DEVNULL)
    return 1000 * (time.monotonic() - began)


def _report(results: Mapping[str, Any]) -> str:
    lines = []
    for name, values in results.items():
        limit = values["limit_ms"]
        spread = Spread(*(values[key] for key in ("median", "p90", "least", "most")))
        verdict = "" if limit is None else f"   {'within' if spread.median <= limit else 'OVER'} {limit:g} ms"
        lines.append(f"{name:16} {spread}{verdict}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
