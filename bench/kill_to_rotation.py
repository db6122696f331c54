"""Replicas killed under load: .venv/bin/python bench/kill_to_rotation.py [--kills 30]

From each SIGKILL the time until HAProxy's own table has the server out of rotation, and until a new one is in it.
The latter is set against the app's own start and readiness, measured bare in between. Limits: out of rotation within
100 ms (p90, never over 500 ms); replaced within own start + readiness + 200 ms; no GET lost."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from bare import BareReplicas
from figures import Spread
from rollout_overhead import hello, python

from rota.core.backoff import SHORT_LIFE
from rota.core.spec import HealthCheck
from rota.testing.load import LoadPlan, LoadProcess, LoadReport
from rota.testing.server import RunningServer

POLL = 0.002  # seconds between two looks at HAProxy's table
PATIENCE = 30.0
REPLICAS = 3
_OUT, _DRAIN = 0x01 | 0x04 | 0x20, 0x08 | 0x10  # srv_admin_state (HAProxy's management guide, "show servers state")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second meanwhile")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given.kills, given.rate))
    print(json.dumps(results) if given.json else _report(results))
    return 0


async def _measure(kills: int, rate: float) -> dict[str, Any]:
    out: list[float] = []
    back: list[float] = []
    own: list[float] = []
    async with RunningServer() as server:
        source = hello(server.directory, REPLICAS)
        await server.ok("deploy", cwd=source)
        table = server.directory / "state/haproxy/stats.sock"
        plan = LoadPlan(url=server.url, host="hello.localhost", rate=rate, slow_share=0.0)
        async with (
            BareReplicas([python(), "app.py"], source, HealthCheck(), "/health") as bare,
            LoadProcess(plan) as load,
        ):
            await load.wait_started()
            for _ in range(kills):
                gone, replaced = await _one_kill(server, table)
                out.append(gone)
                back.append(replaced)
                life = await bare.one()
                own.append(1000 * (life.start + life.readiness))
            report = await load.stop()
    return _results(out, back, own, report)


async def _one_kill(server: RunningServer, table: Path) -> tuple[float, float]:
    """Milliseconds until the killed one is out of rotation, and until as many as before are in it. The victim is the
    oldest, once it has served for longer than what would count as a failed start, after which its slot backs off."""
    victim = min(await server.replicas("hello"), key=lambda replica: replica["ready_since"])
    served = time.time() - datetime.fromisoformat(victim["ready_since"]).timestamp()
    await asyncio.sleep(max(0.0, SHORT_LIFE + 0.5 - served))
    victim = victim["id"]
    server.kill_child(victim)
    began = time.monotonic()
    gone = await asyncio.to_thread(_wait, table, lambda now: victim not in now)
    replaced = await asyncio.to_thread(_wait, table, lambda now: len(now - {victim}) >= REPLICAS)
    return 1000 * (gone - began), 1000 * (replaced - began)


def _wait(table: Path, holds: Any) -> float:
    """When it held. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE
    while not holds(_in_rotation(table)):
        if time.monotonic() > deadline:
            raise TimeoutError("HAProxy's table did not change")
        time.sleep(POLL)
    return time.monotonic()


def _in_rotation(table: Path) -> frozenset[str]:
    """The servers that HAProxy sends new requests to."""
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
        if "srv_name" in row and row["srv_op_state"] == "2" and not int(row["srv_admin_state"]) & (_OUT | _DRAIN)
    )


def _results(out: list[float], back: list[float], own: list[float], report: LoadReport) -> dict[str, Any]:
    gone, replaced, bare = Spread.of(out), Spread.of(back), Spread.of(own)
    return {
        "kills": len(out),
        "out_of_rotation_ms": asdict(gone),
        "replaced_ms": asdict(replaced),
        "own_start_and_readiness_ms": asdict(bare),
        "beyond_own_ms": replaced.median - bare.median,
        "requests": report.requests,
        "lost": report.lost,
        "lost_kinds": report.kinds,
        "lost_gets": report.by_method["GET"].lost if "GET" in report.by_method else 0,
        "load_valid": report.valid,
        "within_limits": gone.p90 <= 100 and gone.most <= 500 and replaced.median - bare.median <= 200,
    }


def _report(results: Mapping[str, Any]) -> str:
    def line(name: str, key: str) -> str:
        values = results[key]
        return f"  {name:26} {Spread(*(values[part] for part in ('median', 'p90', 'least', 'most')))}"

    lost = f"{results['lost']} of {results['requests']} requests, {results['lost_gets']} GETs {results['lost_kinds']}"
    return "\n".join(
        [
            f"{results['kills']} kills under load",
            line("out of rotation", "out_of_rotation_ms"),
            line("replaced", "replaced_ms"),
            line("own start and readiness", "own_start_and_readiness_ms"),
            f"  replaced, beyond its own    median {results['beyond_own_ms']:7.1f} ms",
            f"  lost                       {lost}{'' if results['load_valid'] else ' (INVALID: rate not kept)'}",
            f"  {'within' if results['within_limits'] else 'OVER'} the limits",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
