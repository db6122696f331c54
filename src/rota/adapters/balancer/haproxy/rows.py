"""All that one process of HAProxy says of its servers at one moment, sorted by app, and read as values for the app that
is asked about alone: read by worker.py, oldworkers.py and reloads.py, asked by view.py.

With 10,000 servers the values of all take half a second to make, the sorting a twentieth, and that lets others run
meanwhile (bench/scale.py)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence

from rota.adapters.balancer.haproxy.stats import (
    DRAIN,
    MAINT,
    PREFIX,
    STOPPED,
    Reading,
    number,
    read_frontends,
    read_parts,
    read_stat,
    uptime_of,
    with_codes,
)
from rota.adapters.balancer.haproxy.succession import NEXT

_PIECE = 128 * 1024  # characters, after which others may run
_BE_NAME, _SRV_NAME, _OPERATION, _ADMIN = 1, 3, 5, 6  # of `show servers state`, management guide, 9.3


class Rows:
    """``pid`` and ``frontends``, those of TCP services, are known of the current worker alone. ``sends``: the backends
    to whose servers an old one may still send requests that are not at them yet, None for all."""

    def __init__(
        self,
        stat: _Sorted,
        listed: _Sorted | None,
        pid: int = 0,
        uptime: int = 0,
        frontends: frozenset[str] = frozenset(),
        sends: frozenset[str] | None = None,
    ) -> None:
        self._stat = stat
        self._listed = listed
        self.pid = pid
        self.uptime = uptime
        self.frontends = frontends
        self.sends = sends
        self._read: dict[str, Reading] = {}
        self._codes: dict[str, Mapping[str, str]] = {}

    @property
    def apps(self) -> Collection[str]:
        """Those that have servers."""
        return self._listed.lines.keys() - {NEXT} if self._listed is not None else ()

    def of(self, app: str) -> Reading:
        if app not in self._read:
            read = with_codes(self._parts(app), self._codes.get(app, {}))
            self._codes[app] = {name: server.check for name, server in read.servers.items() if server.check}
            self._read[app] = read
        return self._read[app]

    def _parts(self, app: str) -> Reading:
        stat = self._stat.of(app)
        return read_parts(stat, self._listed.of(app)) if self._listed is not None else Reading(*read_stat(stat))

    def remember(self, before: Rows | None) -> None:
        """What the checks of its servers have said in earlier looks at the same process."""
        if before is not None:
            self._codes = before._codes


class _Sorted:
    """The lines of one answer, by app, under its heading."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.lines: dict[str, list[str]] = defaultdict(list)

    def of(self, app: str) -> Sequence[str]:
        return (self.heading, *self.lines.get(app, ()))


async def read_rows(answer: str) -> Rows:
    """``show stat -1 7 -1;show servers state;show info`` in one answer. Raises ValueError for half of one."""
    stat, _, rest = answer.partition("\n# be_id")
    listed, _, info = ("# be_id" + rest).partition("\nName: ")
    pid = number(info, "Pid")
    if not pid:
        raise ValueError("it ends before its end")
    rows = await _sorted_stat(stat)
    frontends = read_frontends(line for key, lines in rows.lines.items() if key.startswith(PREFIX) for line in lines)
    return Rows(rows, await _sorted_list(listed), pid, uptime_of(info), frontends)


async def read_counts(answer: str, sends: frozenset[str] | None = None) -> Rows:
    """``show stat`` alone, of an old worker. Raises ValueError for half of it."""
    rows = await _sorted_stat(answer)
    last = answer.rstrip().rpartition("\n")[2]
    if last.count(",") != rows.heading.count(","):
        raise ValueError("its last line is cut")
    return Rows(rows, None, sends=sends)


async def failing(answer: str) -> frozenset[tuple[str, str]]:
    """``show servers state``: (backend, server) of those that would get requests and fail their checks. Raises
    ValueError or IndexError for half of it."""
    found = []
    async for lines in _in_pieces(answer):
        for line in lines:
            cells = line.split(" ", _ADMIN + 1)
            if len(cells) > 1 and cells[_OPERATION] == STOPPED and not int(cells[_ADMIN]) & (MAINT | DRAIN):
                found.append((cells[_BE_NAME], cells[_SRV_NAME]))
    return frozenset(found)


async def _sorted_stat(text: str) -> _Sorted:
    rows = _Sorted(text[: text.find("\n")])
    async for lines in _in_pieces(text):
        for line in lines:
            rows.lines[line.partition(",")[0].partition(".")[0]].append(line)
    return rows


async def _sorted_list(text: str) -> _Sorted:
    rows = _Sorted(text[: text.find("\n")])
    async for lines in _in_pieces(text):
        for line in lines:
            backend = line.split(" ", 2)[1:2]
            if backend:
                rows.lines[backend[0].partition(".")[0]].append(line)
    return rows


async def _in_pieces(text: str) -> AsyncIterator[Sequence[str]]:
    """Its lines without headings."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin + _PIECE) + 1 or len(text)
        yield [line for line in text[begin:end].splitlines() if not line.startswith("#")]
        begin = end
        await asyncio.sleep(0)
