"""How soon what was killed is back: .venv/bin/python bench/recovery.py

The daemon by SIGKILL: until the next one is in charge (/readyz), its start included. HAProxy's master by SIGKILL, with
the daemon alive and dead: until a user gets an answer again. With --rolling all of it in the middle of a restart.
And HAProxy's once more under load: the requests that were lost, those that came before the next one among them.
Limits: 2 s in charge, 500 ms serving."""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from figures import Spread

from rota.testing.load import LoadPlan, LoadProcess
from rota.testing.server import RunningServer

HELLO = Path(__file__).parents[1] / "examples" / "hello"
REQUEST = b"GET / HTTP/1.1\r\nHost: hello.localhost\r\nConnection: close\r\n\r\n"
PATIENCE = 20.0  # seconds
LOOK = 0.005  # seconds between two requests
RATE = 300.0  # requests a second
LIMITS_MS = {"daemon in charge": 2000.0, "HAProxy, daemon alive": 500.0, "HAProxy, daemon dead": 500.0}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--rolling", action="store_true", help="while a sequential restart is under way")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given.times, given.rolling))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(times: int, rolling: bool) -> dict[str, Any]:
    taken: dict[str, list[float]] = {name: [] for name in LIMITS_MS}
    lost = []
    async with RunningServer() as server:
        source = server.directory / "hello"
        shutil.copytree(HELLO, source)
        await server.ok("deploy", cwd=source)
        for _ in range(times):
            if rolling:
                await _in_hand(server)
            taken["HAProxy, daemon alive"].append(await _served_again(server))
            await server.kill()
            taken["HAProxy, daemon dead"].append(await _served_again(server))
            taken["daemon in charge"].append(1000 * await server.start())
            await _rested(server)
            lost.append(await _lost(server))
            await _rested(server)
    spreads = {name: asdict(Spread.of(values)) | {"limit_ms": LIMITS_MS[name]} for name, values in taken.items()}
    return {"times": spreads, "lost": lost}


async def _in_hand(server: RunningServer) -> None:
    """A restart whose pauses outlast what is measured, with a replica neither ready nor gone."""
    await server.ok("restart", "hello", "--delay", "5s", "--detach", "--supersede")
    async with asyncio.timeout(PATIENCE):
        while all(replica["phase"] == "ready" for replica in await server.replicas("hello")):
            await asyncio.sleep(LOOK)


async def _served_again(server: RunningServer) -> float:
    """Milliseconds from the kill to the first answer of another HAProxy."""
    before = server.kill_child("haproxy")
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE):
        while not await _answers(server) or server.child("haproxy")["pid"] == before:
            await asyncio.sleep(LOOK)
    return 1000 * (time.monotonic() - began)


async def _lost(server: RunningServer) -> int:
    async with LoadProcess(LoadPlan(url=server.url, host="hello.localhost", rate=RATE, slow_share=0.0)) as load:
        await load.wait_started()
        await _served_again(server)
        report = await load.stop()
    if not report.valid:
        raise RuntimeError(f"the load did not keep its rate: {report.summary()}")
    return report.lost


async def _rested(server: RunningServer) -> None:
    """Until HAProxy has lived for 10 s: the keeper waits a little longer before each restart of one that did not."""
    started = time.monotonic()
    while time.monotonic() < started + 10.5:
        await asyncio.sleep(0.5)


async def _answers(server: RunningServer) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        writer.write(REQUEST)
        line = await reader.readline()
        writer.close()
    except OSError:
        return False
    return b" 200 " in line


def _report(results: dict[str, Any]) -> str:
    times = "\n".join(
        f"{name:24} median {one['median']:7.1f} ms   min {one['least']:7.1f}   max {one['most']:7.1f}   "
        f"limit {one['limit_ms']:g} ms"
        for name, one in results["times"].items()
    )
    return f"{times}\nlost of {RATE:g} requests a second when HAProxy is killed: {results['lost']}"


if __name__ == "__main__":
    sys.exit(main())
