"""How many questions a second the internal name server answers, and how soon, beside a daemon that is busy with a
rolling restart.

    python bench/nameserver.py [--seconds 10] [--json]

Closed loop: ``--clients`` sockets, each with one question under way. Limits: 5,000 a second, p99 5 ms."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from pathlib import Path
from typing import cast

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import dns.message
from figures import quantile
from tests.e2e.scenario import Hello
from tests.e2e.site import Processes, ServerAt

from rota.testing.server import free_port

LEAST_RATE, MOST_P99 = 5000.0, 5.0  # questions a second; milliseconds


class Asking(asyncio.DatagramProtocol):
    """One question after the other, until told to stop."""

    def __init__(self, wires: list[bytes]) -> None:
        self.took: list[float] = []
        self.wrong = 0
        self.stopped = False
        self._wires = wires

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self._ask()

    def datagram_received(self, wire: bytes, address: object) -> None:
        self.took.append((time.perf_counter() - self._sent) * 1000)
        code, answers = wire[3] & 0x0F, int.from_bytes(wire[6:8], "big")  # RFC 1035, section 4.1.1
        self.wrong += code != 0 or answers == 0
        if not self.stopped:
            self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.sendto(self._wires[len(self.took) % len(self._wires)])


async def measure(port: int, wires: list[bytes], clients: int, seconds: float) -> tuple[list[float], int]:
    """Milliseconds of each answer, and how many were none: a code, or no record."""
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_datagram_endpoint(lambda: Asking(wires), remote_addr=("127.0.0.1", port))
        for _ in range(clients)
    ]
    await asyncio.sleep(seconds)
    for transport, asking in made:
        asking.stopped = True
        transport.close()
    return [took for _, asking in made for took in asking.took], sum(asking.wrong for _, asking in made)


async def busy(app: Hello) -> None:
    while True:
        await app.order("restart")


async def bench(seconds: float, clients: int) -> dict[str, object]:
    port = free_port()
    async with ServerAt(Processes(), "--dns", f"127.0.0.1:{port}") as server:
        app = Hello(server, replicas=5)
        await app.deploy_ok()
        asked = [(app.name + ".rota.internal", "A"), (f"_http._tcp.{app.name}.rota.internal", "SRV")]
        asked += [(f"{slot}.{app.name}.rota.internal", "A") for slot in range(1, 6)]
        wires = [dns.message.make_query(name, kind, id=index).to_wire() for index, (name, kind) in enumerate(asked)]
        work = asyncio.create_task(busy(app))
        try:
            took, wrong = await measure(port, wires, clients, seconds)
        finally:
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
    return {
        "wrong": wrong,
        "answered_per_second": round(len(took) / seconds),
        "p50_ms": round(quantile(took, 0.5), 3),
        "p99_ms": round(quantile(took, 0.99), 3),
        "most_ms": round(max(took), 3),
        "limits": {"answered_per_second": LEAST_RATE, "p99_ms": MOST_P99},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = asyncio.run(bench(given.seconds, given.clients))
    if given.json:
        print(json.dumps(found))
        return
    if found["wrong"]:
        print(f"{found['wrong']:,} answers were a code or had no record: the figures below mean nothing")
    print(f"answered {found['answered_per_second']:,} a second (limit {LEAST_RATE:,.0f})")
    print(f"p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms (limit {MOST_P99:g}), most {found['most_ms']} ms")


if __name__ == "__main__":
    main()
