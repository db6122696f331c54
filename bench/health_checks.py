"""What HAProxy's health checks bring and cost: .venv/bin/python bench/health_checks.py [--times 10]

How soon a replica that answers 503, or that answers nothing at all (SIGSTOP), is out of rotation by HAProxy's own
table: within fall x interval + one timeout, where fast_interval + timeout are no more than an interval. And the CPU of
daemon and HAProxy with few checks a second, with many, and with none beside as many as this machine gets through, up to
10,000: they are HAProxy's, so the daemon's may not grow by more than a hundredth of a core."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from figures import Spread
from kill_to_rotation import wait_for_table
from many_checks import many_checks
from rollout_overhead import HELLO, python

from rota.testing.server import RunningServer

INTERVAL, FAST, TIMEOUT, FALL, RISE = 1.5, 0.3, 1.0, 3, 2  # FAST + TIMEOUT are less than INTERVAL: see repair.md
LIMIT_MS = 1000 * (FALL * INTERVAL + TIMEOUT)
RARE, OFTEN = 2.0, 0.1  # seconds between two checks of a replica
CPU_LIMIT = 0.01  # cores
_TICK = os.sysconf("SC_CLK_TCK")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--replicas", type=int, default=10, help="of the app that is checked often")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which CPU time is counted")
    parser.add_argument("--most", type=int, default=10_000, help="checks a second that are asked for at last")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given.times, given.replicas, given.seconds, given.most))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(times: int, replicas: int, seconds: float, most: int) -> dict[str, Any]:
    async with RunningServer() as server:
        check: dict[str, Any] = {"interval": INTERVAL, "fast_interval": FAST, "timeout": TIMEOUT, "fall": FALL}
        await _deploy(server, 3, check | {"rise": RISE})
        ill = [await _out(server, *_sick(replica)) for replica in await _some(server, times)]
        hung = [await _out(server, *_hung(server, replica)) for replica in await _some(server, times)]
        usage = {}
        for interval in (RARE, OFTEN):
            await _deploy(server, replicas, {"interval": interval, "fast_interval": interval})
            usage[f"{replicas / interval:g} checks a second"] = await _cores(server, seconds)
    steady = await _steady(seconds, most)
    grown = [second["daemon"] - first["daemon"] for first, second in map(_ends, (usage, steady))]
    return {
        "unhealthy_to_out_ms": {"answers 503": _spread(ill), "does not answer": _spread(hung)},
        "limit_ms": LIMIT_MS,
        "cores": usage,
        "steady": steady,
        "daemons_growth": grown,
        "within_limits": max(ill + hung) <= LIMIT_MS and max(grown) <= CPU_LIMIT,
    }


def _ends(usage: Mapping[str, Mapping[str, float]]) -> tuple[Mapping[str, float], Mapping[str, float]]:
    first, *_, last = usage.values()
    return first, last


async def _steady(seconds: float, most: int) -> dict[str, dict[str, float]]:
    """The same server with all those checks off, and on; its own app's go on beside them."""
    with tempfile.TemporaryDirectory(prefix="rota-") as name, many_checks(Path(name), most) as checks:
        server = RunningServer()
        try:
            await server.start(PATH=f"{checks.programs}:{os.environ['PATH']}")
            await _deploy(server, 3, {"interval": RARE})
            found = {}
            for on in (False, True):
                await asyncio.to_thread(checks.switch, server.directory / "state/haproxy/stats.sock", on)
                before, began = checks.answered(), time.monotonic()
                used = await _cores(server, seconds)
                rate = (checks.answered() - before) / (time.monotonic() - began)
                found[f"{rate:,.0f} checks a second"] = used
        finally:
            await server.end()
    return found


async def _deploy(server: RunningServer, replicas: int, check: Mapping[str, Any]) -> None:
    source = server.directory / "hello"
    if not source.exists():
        shutil.copytree(HELLO, source)
    spec = yaml.safe_load((HELLO / "rota.yaml").read_text())
    spec |= {"replicas": replicas, "command": [python(), "app.py"], "health_check": {"path": "/health", **check}}
    spec |= {"repair": {"unhealthy_grace": "1h"}}
    (source / "rota.yaml").write_text(yaml.safe_dump({key: spec[key] for key in spec if key != "health_check_path"}))
    await server.ok("deploy", cwd=source)


async def _some(server: RunningServer, times: int) -> list[dict[str, Any]]:
    replicas = await server.replicas("hello")
    return [replicas[number % len(replicas)] for number in range(times)]


def _sick(replica: Mapping[str, Any]) -> tuple[str, Callable[[], None], Callable[[], None]]:
    def tell(path: str) -> None:
        request = urllib.request.Request(f"http://{replica['address']}/health/{path}", method="POST")
        with urllib.request.urlopen(request, timeout=5):
            pass

    return str(replica["id"]), lambda: tell("off"), lambda: tell("on")


def _hung(server: RunningServer, replica: Mapping[str, Any]) -> tuple[str, Callable[[], None], Callable[[], None]]:
    pid = int(server.child(replica["id"])["pid"])
    return str(replica["id"]), lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT)


async def _out(server: RunningServer, name: str, break_it: Callable[[], None], mend: Callable[[], None]) -> float:
    """Milliseconds until it is out of rotation; it is back when this returns."""
    table = server.directory / "state/haproxy/stats.sock"
    await asyncio.to_thread(break_it)
    began = time.monotonic()
    gone = await asyncio.to_thread(wait_for_table, table, lambda now: name not in now)
    await asyncio.to_thread(mend)
    await asyncio.to_thread(wait_for_table, table, lambda now: name in now)
    return 1000 * (gone - began)


async def _cores(server: RunningServer, seconds: float) -> dict[str, float]:
    """CPU seconds a second of the daemon and of HAProxy's processes, once nothing changes any more."""
    await asyncio.sleep(2.0)
    master = int(server.child("haproxy")["pid"])
    workers = [int(pid) for pid in Path(f"/proc/{master}/task/{master}/children").read_text().split()]
    groups = {"daemon": [server.pid], "haproxy": [master, *workers]}
    before = {name: sum(map(_used, pids)) for name, pids in groups.items()}
    await asyncio.sleep(seconds)
    return {name: (sum(map(_used, pids)) - before[name]) / seconds for name, pids in groups.items()}


def _used(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _spread(values: list[float]) -> dict[str, float]:
    return asdict(Spread.of(values))


def _report(results: Mapping[str, Any]) -> str:
    lines = []
    for name, values in results["unhealthy_to_out_ms"].items():
        shown = Spread(*(values[part] for part in ("median", "p90", "least", "most")))
        lines.append(f"{name:18} out of rotation after {shown}   (limit {results['limit_ms']:.0f})")
    for name, used in [*results["cores"].items(), *results["steady"].items()]:
        lines.append(f"{name:24} daemon {used['daemon']:.4f} of a core, HAProxy {used['haproxy']:.4f}")
    return "\n".join([*lines, "within the limits" if results["within_limits"] else "OVER the limits"])


if __name__ == "__main__":
    sys.exit(main())
