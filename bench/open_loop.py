"""Requests at a fixed rate over kept connections, each timed from the moment at which it was due; run by balancer.py as
a program of its own: python bench/open_loop.py PORT HOST --rate 2000 --seconds 3 --connections 32

An open loop: a slow answer delays no later request's clock, so that what waits for it is counted (no coordinated
omission). ``select`` and sockets alone, without asyncio, whose timers are a millisecond coarse."""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import random
import select
import socket
import time
from collections import deque

from figures import quantile

END = b"the end\n"
"""What every answer closes with."""

_PR_SET_TIMERSLACK = 29  # prctl(2)
_PATIENCE = 2.0  # seconds for what is open at the end


class Answered:
    """The run's milliseconds from due to answered, and how many had no whole answer."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.lost = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("port", type=int)
    parser.add_argument("host")
    parser.add_argument("--rate", type=float, default=2000.0, help="requests a second, at random moments")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--header", action="append", default=[])
    given = parser.parse_args()
    head = [f"GET / HTTP/1.1\r\nHost: {given.host}", *given.header]
    _be_precise()
    found = _run(given.port, "\r\n".join([*head, "", ""]).encode(), given.rate, given.seconds, given.connections)
    print(
        json.dumps(
            {
                "requests": len(found.took) + found.lost,
                "lost": found.lost,
                "p50_ms": quantile(found.took, 0.5),
                "p99_ms": quantile(found.took, 0.99),
            }
        )
    )


def _be_precise() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000)
    gc.freeze()
    gc.disable()


def _run(port: int, wire: bytes, rate: float, seconds: float, connections: int) -> Answered:
    found, draw = Answered(), random.Random(1)  # noqa: S311 - the same moments for all
    free = deque(_connect(port) for _ in range(connections))
    open_since: dict[socket.socket, float] = {}
    heard: dict[socket.socket, bytes] = {}
    waiting: deque[float] = deque()
    now = time.perf_counter()
    due, end = now, now + seconds
    while now < end or ((waiting or open_since) and now < end + _PATIENCE):
        while due <= now and due < end:
            waiting.append(due)
            due += draw.expovariate(rate)
        while waiting and free:
            line = free.popleft()
            open_since[line], heard[line] = waiting.popleft(), b""
            line.sendall(wire)
        rest = due - time.perf_counter() if due < end else _PATIENCE / 10
        for line in select.select(open_since, [], [], max(0.0, rest))[0]:
            piece = line.recv(65536)
            heard[line] += piece
            if heard[line].endswith(END):
                found.took.append(1000 * (time.perf_counter() - open_since.pop(line)))
                free.append(line)
            elif not piece:
                found.lost += 1
                del open_since[line]
                free.append(_connect(port))
        now = time.perf_counter()
    found.lost += len(open_since) + len(waiting)
    return found


def _connect(port: int) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


if __name__ == "__main__":
    main()
