"""Replicas killed under load: .venv/bin/python bench/kill_to_rotation.py [--kills 30] [--runtime docker]
                                  .venv/bin/python bench/kill_to_rotation.py --replicas 5 --every 2 --for 300

From each SIGKILL the time until the kernel says that the process has ended, until HAProxy's own table has the server
out of rotation, and until a new one is in it. The last is set against the app's own start and readiness, measured bare
in between. Limits: out of rotation within 100 ms (p90, never over 500 ms); replaced within own start + readiness +
200 ms; no GET lost. With ``--every`` the kills do not wait for the replacement of the one before, and nothing is
measured bare: no GET may be lost."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import yaml
from bare import BareReplicas, OwnTimes
from bare_containers import BareContainers
from figures import Spread
from rollout_overhead import hello, python

from rota.core.healthcheck import Check, Kind
from rota.testing.docker import HELLO, DockerEngine, docker_engine
from rota.testing.load import LoadPlan, LoadProcess, LoadReport
from rota.testing.server import RunningServer

EXAMPLE = Path(__file__).parents[1] / "examples" / "hello"
APP = "hello"
POLL = 0.002  # seconds between two looks at HAProxy's table
PATIENCE = 30.0
_OUT, _DRAIN = 0x01 | 0x04 | 0x20, 0x08 | 0x10  # srv_admin_state (HAProxy's management guide, "show servers state")
CHECK = Check(Kind.HTTP, "/health")


class Bare(Protocol):
    async def one(self) -> OwnTimes: ...


@dataclass(frozen=True)
class Site:
    """A server with the app on it: how to kill one of its replicas, and to have one's own times."""

    server: RunningServer
    pid: Callable[[str], Awaitable[int]]
    bare: Callable[[], AbstractAsyncContextManager[Bare]]

    @property
    def table(self) -> Path:
        return self.server.directory / "state/haproxy/stats.sock"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30, help="one after the other")
    parser.add_argument("--every", type=float, help="seconds between two kills, whatever came of the last one")
    parser.add_argument("--for", type=float, default=300.0, dest="lasts", help="seconds, with --every")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--runtime", choices=("process", "docker"), default="process")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second meanwhile, a fifth of them POST")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(given: argparse.Namespace) -> dict[str, Any]:
    at = _processes if given.runtime == "process" else _containers
    async with at(given.replicas) as site:
        plan = LoadPlan(url=site.server.url, host="hello.localhost", rate=given.rate, slow_share=0.0)
        async with LoadProcess(plan) as load:
            await load.wait_started()
            if given.every:
                kills = await _one_every(site, given.every, given.lasts)
                return {"kills": kills, "every_s": given.every} | _losses(await load.stop())
            async with site.bare() as bare:
                times = [await _one_kill(site, given.replicas, bare) for _ in range(given.kills)]
            return _results(times, await load.stop())


@contextlib.asynccontextmanager
async def _processes(replicas: int) -> AsyncIterator[Site]:
    async with RunningServer() as server:
        source = hello(server.directory, replicas)
        await server.ok("deploy", cwd=source)

        async def pid(replica: str) -> int:
            return int(server.child(replica)["pid"])

        yield Site(server, pid, lambda: BareReplicas([python(), "app.py"], source, CHECK))


@contextlib.asynccontextmanager
async def _containers(replicas: int) -> AsyncIterator[Site]:
    with docker_engine() as engine:
        engine.import_hello(EXAMPLE)
        async with RunningServer(None, "--runtime", "docker", "--docker-host", engine.host) as server:
            spec = {"name": "hello", "image": HELLO, "replicas": replicas, "health_check_path": "/health"}
            (server.directory / "rota.yaml").write_text(yaml.safe_dump(spec))
            await server.ok("deploy", cwd=server.directory)
            like = await _inspected(engine, "label=rota.app=hello")

            async def pid(replica: str) -> int:
                return int((await _inspected(engine, f"label=rota.replica={replica}"))["State"]["Pid"])

            yield Site(server, pid, lambda: BareContainers(engine.host, like, CHECK))


async def _inspected(engine: DockerEngine, label: str) -> Mapping[str, Any]:
    container = (await engine.cli("ps", "-q", "--filter", label)).split()[0]
    found: Mapping[str, Any] = json.loads(await engine.cli("inspect", container))[0]
    return found


async def _one_kill(site: Site, replicas: int, bare: Bare) -> tuple[float, float, float, float]:
    """Milliseconds until the killed one has ended, until it is out of rotation, until as many as before are in it, and
    one's own times."""
    victim, pid = await _oldest(site)
    pidfd = os.pidfd_open(pid)
    site.server.kill_pid(pid)
    began = time.monotonic()
    ended = asyncio.create_task(asyncio.to_thread(_ended, pidfd))
    gone = await asyncio.to_thread(wait_for_table, site.table, lambda now: victim not in now)
    replaced = await asyncio.to_thread(wait_for_table, site.table, lambda now: len(now - {victim}) >= replicas)
    life = await bare.one()
    moments = [1000 * (moment - began) for moment in (await ended, gone, replaced)]
    return moments[0], moments[1], moments[2], 1000 * (life.start + life.readiness)


def _ended(pidfd: int) -> float:
    """When the kernel says that it has ended."""
    try:
        select.select([pidfd], [], [], PATIENCE)
        return time.monotonic()
    finally:
        os.close(pidfd)


async def _one_every(site: Site, every: float, lasts: float) -> int:
    """How many were killed."""
    began, kills = time.monotonic(), 0
    while time.monotonic() < began + lasts:
        _, pid = await _oldest(site)
        site.server.kill_pid(pid)
        kills += 1
        await asyncio.sleep(max(0.0, began + kills * every - time.monotonic()))
    return kills


async def _oldest(site: Site) -> tuple[str, int]:
    """Of those that are ready, and the pid of its main process."""
    ready = [replica for replica in await site.server.replicas("hello") if replica["phase"] == "ready"]
    oldest = min(ready, key=lambda replica: str(replica["ready_since"]))["id"]
    return oldest, await site.pid(oldest)


def wait_for_table(table: Path, holds: Any) -> float:
    """When it held. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not holds(in_rotation(table)):
        if time.monotonic() > deadline:
            raise TimeoutError("HAProxy's table did not change")
        time.sleep(POLL)
    return time.monotonic()


def in_rotation(table: Path) -> frozenset[str]:
    """The app's servers that HAProxy sends new requests to."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        asking.connect(str(table))
        asking.sendall(b"show servers state\n")
        lines = asking.makefile().read().splitlines()
    names = next(line.split()[1:] for line in lines if line.startswith("# be_id"))
    rows = [dict(zip(names, line.split(), strict=False)) for line in lines if line[:1].isdigit()]
    return frozenset(
        row["srv_name"]
        for row in rows
        if row.get("srv_name", "").startswith(APP)
        and row["srv_op_state"] == "2"
        and not int(row["srv_admin_state"]) & (_OUT | _DRAIN)
    )


def _results(times: list[tuple[float, float, float, float]], report: LoadReport) -> dict[str, Any]:
    ended, gone, replaced, bare = (Spread.of(values) for values in zip(*times, strict=True))
    beyond = replaced.median - bare.median
    losses = _losses(report)
    return {
        "kills": len(times),
        "ended_ms": asdict(ended),
        "out_of_rotation_ms": asdict(gone),
        "replaced_ms": asdict(replaced),
        "own_start_and_readiness_ms": asdict(bare),
        "beyond_own_ms": beyond,
        **losses,
        "within_limits": losses["within_limits"] and gone.p90 <= 100 and gone.most <= 500 and beyond <= 200,
    }


def _losses(report: LoadReport) -> dict[str, Any]:
    gets = report.by_method["GET"].lost if "GET" in report.by_method else 0
    return {
        "requests": report.requests,
        "lost": report.lost,
        "lost_kinds": report.kinds,
        "lost_gets": gets,
        "load_valid": report.valid,
        "within_limits": gets == 0,
    }


def _report(results: Mapping[str, Any]) -> str:
    def line(name: str, key: str) -> str:
        values = results[key]
        return f"  {name:26} {Spread(*(values[part] for part in ('median', 'p90', 'least', 'most')))}"

    every = f", one every {results['every_s']:g} s" if "every_s" in results else ""
    lines = [f"{results['kills']} kills under load{every}"]
    if "beyond_own_ms" in results:
        lines += [
            line("ended", "ended_ms"),
            line("out of rotation", "out_of_rotation_ms"),
            line("replaced", "replaced_ms"),
            line("own start and readiness", "own_start_and_readiness_ms"),
            f"  replaced, beyond its own    median {results['beyond_own_ms']:7.1f} ms",
        ]
    lost = f"{results['lost']} of {results['requests']} requests, {results['lost_gets']} GETs {results['lost_kinds']}"
    invalid = "" if results["load_valid"] else " (INVALID: rate not kept)"
    lines += [f"  lost                       {lost}{invalid}"]
    return "\n".join([*lines, f"  {'within' if results['within_limits'] else 'OVER'} the limits"])


if __name__ == "__main__":
    sys.exit(main())
