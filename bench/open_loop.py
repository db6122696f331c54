"""Requests at a fixed rate over kept connections, each timed from the moment at which it was due; run by balancer.py as
a program of its own: python bench/open_loop.py HOST PORT... --rate 500 --seconds 4 --connections 16

Of several ports each has the rate, and which one a request goes to is drawn: whatever else the machine does meanwhile
hits all alike. An open loop: a slow answer delays no later request's clock, so that what waits for it is counted (no
coordinated omission). ``select`` and sockets alone, without asyncio, whose timers are a millisecond coarse."""

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
from collections.abc import Sequence

from figures import quantile

END = b"the end\n"
"""What every answer closes with."""

_PR_SET_TIMERSLACK = 29  # prctl(2)
_PATIENCE = 2.0  # seconds for what is open at the end


class _Lines:
    """The connections to one port, what waits for one, the milliseconds from due to answered, and how many requests had
    no whole answer."""

    def __init__(self, port: int, connections: int) -> None:
        self.port = port
        self.free = deque(_connect(port) for _ in range(connections))
        self.waiting: deque[float] = deque()
        self.took: list[float] = []
        self.lost = 0

    def told(self) -> dict[str, float]:
        times = {"p50_ms": quantile(self.took, 0.5), "p99_ms": quantile(self.took, 0.99)}
        return {"requests": len(self.took) + self.lost, "lost": self.lost, **times}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("host")
    parser.add_argument("ports", type=int, nargs="+")
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second to each, at random moments")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=16, help="to each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--header", action="append", default=[])
    given = parser.parse_args()
    head = [f"GET / HTTP/1.1\r\nHost: {given.host}", *given.header]
    _be_precise()
    lines = [_Lines(port, given.connections) for port in given.ports]
    draw = random.Random(given.seed)  # noqa: S311 - the same moments for the same seed
    _run(lines, "\r\n".join([*head, "", ""]).encode(), given.rate * len(lines), given.seconds, draw)
    print(json.dumps([one.told() for one in lines]))


def _be_precise() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1000)
    gc.freeze()
    gc.disable()


def _run(every: Sequence[_Lines], wire: bytes, rate: float, seconds: float, draw: random.Random) -> None:
    """``rate`` is that of all together."""
    open_since: dict[socket.socket, tuple[float, _Lines]] = {}
    heard: dict[socket.socket, bytes] = {}
    now = time.perf_counter()
    due, end = now, now + seconds
    while now < end or ((open_since or any(one.waiting for one in every)) and now < end + _PATIENCE):
        while due <= now and due < end:
            draw.choice(every).waiting.append(due)
            due += draw.expovariate(rate)
        for one in every:
            while one.waiting and one.free:
                line = one.free.popleft()
                open_since[line], heard[line] = (one.waiting.popleft(), one), b""
                line.sendall(wire)
        rest = due - time.perf_counter() if due < end else _PATIENCE / 10
        for line in select.select(open_since, [], [], max(0.0, rest))[0]:
            _hear(line, open_since, heard)
        now = time.perf_counter()
    for _, one in open_since.values():
        one.lost += 1
    for one in every:
        one.lost += len(one.waiting)


def _hear(
    line: socket.socket, open_since: dict[socket.socket, tuple[float, _Lines]], heard: dict[socket.socket, bytes]
) -> None:
    piece = line.recv(65536)
    heard[line] += piece
    if heard[line].endswith(END):
        since, one = open_since.pop(line)
        one.took.append(1000 * (time.perf_counter() - since))
        one.free.append(line)
    elif not piece:
        _, one = open_since.pop(line)
        one.lost += 1
        one.free.append(_connect(one.port))


def _connect(port: int) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", port))
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


if __name__ == "__main__":
    main()
