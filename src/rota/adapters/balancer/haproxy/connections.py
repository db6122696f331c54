"""What is open in all of HAProxy's processes: counted by kind for people, ended at a deadline, or when its process has
to make room; used by balancer.py."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping

from rota.adapters.balancer.haproxy.oldworkers import OldWorkers
from rota.adapters.balancer.haproxy.parts import replica_of
from rota.adapters.balancer.haproxy.sessions import Session
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.names import ReplicaId
from rota.core.observation import Open

_SHARES, _EVERY = 20, 0.5  # seconds: as core.handoff ends them
_LEAST_AGE = 30  # seconds: what is younger came in over a kept connection and will end by itself
_SWITCHING = 101


class Connections:
    def __init__(self, haproxy: Haproxy, old: OldWorkers) -> None:
        self._haproxy = haproxy
        self._old = old

    async def counted(self) -> Mapping[ReplicaId, Open]:
        """What is open to each server. Raises NotAnswering."""
        found = await self._haproxy.sessions()
        for pid in (await self._haproxy.workers()).old:
            found += await self._old.sessions(pid)
        return _by_replica(session for session in found if session.server and not session.passed)

    async def cut(self, paths: Collection[str], leave: int) -> None:
        """Ends what is open to a replica's servers, ``backend/server``, until ``leave`` are left; what old processes
        hold first, which then may end."""
        old = [
            (pid, session)
            for pid in (await self._haproxy.workers()).old
            for session in await self._old.sessions(pid)
            if _is_at(session, paths)
        ]
        there = [session for session in await self._haproxy.sessions() if _is_at(session, paths)] if leave else []
        surplus = max(0, len(there) + len(old) - leave)
        for pid, session in old[:surplus]:
            await self._old.end(pid, session)
        await self._haproxy.end(there[: max(0, surplus - len(old))])

    async def let_go(self, pid: int, note: Callable[[Mapping[str, int]], Awaitable[None]]) -> None:
        """Ends the long connections of an old process, share by share; ``note`` is told how many of each backend before
        they end. Raises NotAnswering."""
        ended: set[str] = set()  # HAProxy lists one for a moment after it was told to end it
        for left in range(_SHARES, 0, -1):
            there = [session for session in await self._old.sessions(pid) if session.id not in ended]
            long = [session for session in there if session.age >= _LEAST_AGE]
            share = long[: -(-len(long) // left)]
            await note(Counter(session.backend for session in share if session.backend and not session.passed))
            for session in share:
                await self._old.end(pid, session)
                ended.add(session.id)
            if len(long) == len(share):
                return
            await asyncio.sleep(_EVERY)


def _is_at(session: Session, paths: Collection[str]) -> bool:
    return f"{session.backend}/{session.server}" in paths


def _by_replica(sessions: Iterable[Session]) -> dict[ReplicaId, Open]:
    found: dict[ReplicaId, Open] = {}
    for session in sessions:
        name = replica_of(session.server)
        found[name] = found.get(name, Open()) + _kind(session)
    return found


def _kind(session: Session) -> Open:
    if not session.http:
        return Open(tcp=1)
    if session.status == _SWITCHING:
        return Open(websockets=1)
    return Open(answers=1) if session.status else Open(requests=1)
