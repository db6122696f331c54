"""The access log: the lines of haproxy.cfg that have HAProxy write it, and the AccessLog port that reads it; the lines
are written by frontend.py and tcp.py, the port is made by the composition root.

HAProxy writes one line of JSON a request, or a TCP connection, to its own output, which the keeper has led to a file
and rotates: no other process takes part, so nothing is lost or held up while the daemon is away. What rotation takes
from an app of few requests, newest.py has kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

from rota.adapters.balancer.haproxy.newest import ALL, HOLE, LOG, ROTATED, NewestLines
from rota.adapters.balancer.haproxy.parts import replica_of
from rota.adapters.written import Follower, finished_tail

_LOOK_AGAIN = 0.1

# `date` is the end of the request; %rc begins with a + when another server was tried. What may hold a quote is encoded,
# at a hundredth of a request's cost each (measured): a method is a token (RFC 9110, 5.6.2), the id ours, or what
# forwarded.py lets through.
_FIELDS = {
    "app": '"%[var(txn.app)]"',
    "at": "%[date(0,ms)]",
    "client": '"%ci"',
    "method": '"%HM"',
    "host": '"%[var(txn.host),json(utf8s)]"',
    "path": '"%[capture.req.uri,field(1,?),json(utf8s)]"',
    "status": "%ST",
    "replica": '"%s"',
    "backend": '"%b"',
    "received": "%U",
    "sent": "%B",
    "request_ms": "%TR",
    "queue_ms": "%Tw",
    "connect_ms": "%Tc",
    "response_ms": "%Tr",
    "total_ms": "%Ta",
    "retries": '"%rc"',
    "ended": '"%tsc"',
    "id": '"%[var(txn.request_id)]"',
}

# Nothing that a client has said: no name of TLS, which could hold a quote. The id tells lines apart that are alike.
_FIELDS_OF_TCP = {
    **{name: _FIELDS[name] for name in ("app", "at", "client")},
    "protocol": '"tcp"',
    "port": "%fp",
    **{name: _FIELDS[name] for name in ("replica", "backend", "received", "sent", "queue_ms", "connect_ms")},
    "total_ms": "%Tt",
    "retries": '"%rc"',
    "ended": '"%ts"',
    "id": '"%[uuid()]"',
}


def _lines(fields: Mapping[str, str]) -> str:
    written = ",".join(f'"{name}":{value}' for name, value in fields.items())
    return f"  log stdout len 16384 format raw daemon info\n  log-format '{{{written}}}'"


ACCESS_LINES = _lines(_FIELDS)
"""The path is without its query, which may hold secrets."""

ACCESS_LINES_OF_TCP = _lines(_FIELDS_OF_TCP)


class HaproxyAccessLog:
    """``directory`` is HAProxy's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._newest = NewestLines(directory)

    async def run(self) -> None:
        """Keeps each app's newest lines as the files are rotated, without an end."""
        await self._newest.run()

    async def tail(self, app: str, lines: int) -> list[Mapping[str, Any]]:
        return (await asyncio.to_thread(self._tail, app, lines))[0]

    async def follow(self, app: str, lines: int) -> AsyncIterator[Mapping[str, Any]]:
        last, offset = await asyncio.to_thread(self._tail, app, lines)
        for entry in last:
            yield entry
        follower = Follower(self._directory / LOG, offset)
        while True:
            while found := await asyncio.to_thread(follower.next_lines):
                for entry in _read(_of(app, found)):
                    yield entry
            await asyncio.sleep(_LOOK_AGAIN)

    def _tail(self, app: str, lines: int) -> tuple[list[Mapping[str, Any]], int]:
        """The last entries, and where the log ended that they were read from."""
        newest, offset = finished_tail(self._directory / LOG, ALL)
        found = _of(app, newest)
        for name in ROTATED:
            if len(found) < lines:
                found = [*_of(app, finished_tail(self._directory / name, ALL)[0]), *found]
        if len(found) < lines:
            found = [*self._newest.of(app), *found]  # those of the rotated files once more, which come first and stay
        return _read(list(dict.fromkeys(found))[-lines:]) if lines else [], offset


def _of(app: str, lines: Iterable[str]) -> list[str]:
    beginning = f'{{"app":"{app}",'
    return [line for text in lines if (line := text.lstrip(HOLE)).startswith(beginning)]


def _read(lines: Iterable[str]) -> list[Mapping[str, Any]]:
    return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: str) -> Mapping[str, Any] | None:
    """None for a line that was cut: at a rotation, or by a full disk."""
    try:
        read: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    retries, replica = str(read["retries"]), read["replica"]
    read["redispatched"] = retries.startswith("+")
    read["retries"] = int(retries)
    read["at"] /= 1000
    return {"protocol": "http"} | read | {"replica": None if replica.startswith("<") else replica_of(replica)}
