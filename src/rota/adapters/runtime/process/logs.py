"""What process replicas have written, read from their files; fulfils the Logs port for the API and the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from rota.adapters.runtime.process.layout import Layout, app_of
from rota.adapters.written import Follower, finished_tail, written_tail
from rota.core.names import ReplicaId
from rota.ports.logs import LogLine

KEPT = 20  # logs of removed replicas kept an app
_LOOK_AGAIN = 0.1


class FileLogs:
    """``exists`` tells whether a replica is still there and may write more."""

    def __init__(self, layout: Layout, exists: Callable[[ReplicaId], bool]) -> None:
        self._layout = layout
        self._exists = exists

    async def tail(self, replica: ReplicaId, lines: int) -> tuple[str, ...]:
        if not app_of(replica):
            return ()
        return await asyncio.to_thread(_written, self._layout.log(replica), lines)

    async def follow(self, replica: ReplicaId, lines: int) -> AsyncIterator[LogLine]:
        if not app_of(replica):
            return
        log = self._layout.log(replica)
        last, offset = await asyncio.to_thread(finished_tail, log, lines)
        for line in last:
            yield LogLine(replica, line)
        follower = Follower(log, offset)
        while True:
            # Asked before the last look: what was written until then is read.
            there = self._exists(replica)
            while found := await asyncio.to_thread(follower.next_lines):
                for line in found:
                    yield LogLine(replica, line)
            if not there:
                if rest := follower.rest():
                    yield LogLine(replica, rest)
                return
            await asyncio.sleep(_LOOK_AGAIN)

    def prune(self, app: str) -> None:
        """Deletes the oldest logs of replicas that are no more, beyond the newest 20."""
        logs = self._layout.logs(app)
        gone = [log for log in logs.glob("*.log") if not self._exists(ReplicaId(log.name.removesuffix(".log")))]
        gone.sort(key=_written_at, reverse=True)
        for log in gone[KEPT:]:
            for file in (log, *logs.glob(f"{log.name}.*")):
                file.unlink(missing_ok=True)


def _written_at(log: Path) -> float:
    """The oldest time for a log that is gone: two removals prune the same directory at once."""
    try:
        return log.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _written(log: Path, lines: int) -> tuple[str, ...]:
    found = written_tail(log, lines)
    if len(found) < lines:
        return (*written_tail(log.with_name(log.name + ".1"), lines - len(found)), *found)
    return found
