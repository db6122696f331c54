"""A thousand apps of ten servers behind one HAProxy: .venv/bin/python bench/scale.py

Writes and checks the whole file, then gives one server other weights over the socket, has all apps looked at, and sends
one app's servers 10,000 requests. Limits: 3 s for the file, 5 ms for a change by the socket, shares equal within 2 %.
One look at HAProxy holds up all else in the daemon for at most 20 ms of its CPU. Beside them: what the file on disk
adds to a change, and for how long that holds up all else; how long looks take, those of all apps at one moment too,
and the longest that anything else waited meanwhile, which on a busy machine is as long as that likes."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rota.adapters.balancer.haproxy.disk import Disk
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import App, Server, State
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.testing.haproxy import Rig, binary_of, pool
from rota.testing.web import Client, WebServer

LIMITS = {"file_s": 3.0, "change_ms": 5.0, "look_holds_up_cpu_ms": 20.0, "spread": 0.02}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--apps", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=10, help="of each app")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--binary", choices=["system", "bundled"], default="system")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    found = asyncio.run(_measure(given.apps, given.servers, given.requests, given.binary))
    print(json.dumps(found) if given.json else "\n".join(f"{name}: {value:.4g}" for name, value in found.items()))
    return int(any(found[name] > limit for name, limit in LIMITS.items()))


async def _measure(apps: int, servers: int, requests: int, binary: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="rota-") as name:
        rig = Rig(Path(name), binary_of(binary))
        webs = [await rig.web(f"app0-{number}") for number in range(servers)]
        state = _state(apps, servers, webs)
        try:
            found = {"file_s": await _write(rig, state)}
            await rig.balancer.start()
            found |= await _change(rig)
            found |= await _looks(rig, apps)
            return found | {"spread": await _spread(rig, webs, requests)}
        finally:
            await rig.close()


def _state(apps: int, servers: int, webs: list[WebServer]) -> State:
    """Nobody listens behind any but the first app; their checks come once an hour."""
    state = State()
    for number in range(apps):
        backend = pool(None, app=f"app{number}", interval=3600)
        app = App(backend.app).prepared(backend, (f"app{number}.localhost",))
        for place in range(servers):
            address = webs[place].address if number == 0 else Address("127.0.0.1", 20000 + place)
            app = app.with_server(Server(ReplicaId(f"app{number}-{place}"), backend.name, address))
        state = state.with_app(app)
    return state


async def _write(rig: Rig, state: State) -> float:
    disk = Disk(Settings(rig.settings.directory, rig.settings.binds, maxconn=500), rig.binary)
    await disk.read()
    began = time.perf_counter()
    await disk.check(state)
    await disk.write(state)
    took = time.perf_counter() - began
    await disk.close()
    return took


async def _change(rig: Rig) -> dict[str, float]:
    """By the socket alone, and by the adapter, which writes the file before; medians of 20, in milliseconds."""
    haproxy = Haproxy(rig.settings)
    replica, backend = ReplicaId("app1-0"), pool(None, app="app1", interval=3600).name
    alone, whole, held_up = [], [], []
    for number in range(20):
        began = time.perf_counter()
        await haproxy.tell(f"set server {backend}/{replica} weight {50 + number}")
        alone.append(time.perf_counter() - began)
        began = time.perf_counter()
        held_up.append(await _held_up(rig.balancer.weigh(replica, 10 + number)))
        whole.append(time.perf_counter() - began)
    found = {"change_ms": alone, "change_with_file_ms": whole, "change_holds_up_ms": held_up}
    return {name: 1000 * statistics.median(values) for name, values in found.items()}


async def _looks(rig: Rig, apps: int) -> dict[str, float]:
    """In milliseconds; medians of 9 but for all apps' looks."""

    async def of(app: int) -> None:
        (await rig.balancer.observe())[f"app{app}"]

    async def of_all() -> None:
        await asyncio.gather(*map(of, range(apps)))

    looks: dict[str, list[float]] = {"look_ms": [], "look_holds_up_ms": [], "look_holds_up_cpu_ms": []}
    for number in range(9):
        began = time.perf_counter()
        looks["look_holds_up_ms"].append(await _held_up(of(number)))
        looks["look_ms"].append(time.perf_counter() - began)
        looks["look_holds_up_cpu_ms"].append(await _held_up(of(number), time.thread_time))
    found = {name: 1000 * statistics.median(values) for name, values in looks.items()}
    began = time.perf_counter()
    held_up = await _held_up(of_all(), time.thread_time)
    return found | {"all_apps_look_ms": 1000 * (time.perf_counter() - began), "all_apps_hold_up_cpu_ms": 1000 * held_up}


async def _held_up(work: Coroutine[Any, Any, None], clock: Callable[[], float] = time.perf_counter) -> float:
    """The longest time in which nothing else ran."""
    task, longest, last = asyncio.ensure_future(work), 0.0, clock()
    while not task.done():
        await asyncio.sleep(0)
        now = clock()
        longest, last = max(longest, now - last), now
    await task
    return longest


async def _spread(rig: Rig, webs: list[WebServer], requests: int) -> float:
    client = Client(rig.port, "app0.localhost")
    answered = [(await client.ask(keep=True))[1] for _ in range(requests)]
    client.close()
    counts = [answered.count(web.name) for web in webs]
    return max(abs(count - requests / len(webs)) for count in counts) / (requests / len(webs))


if __name__ == "__main__":
    sys.exit(main())
