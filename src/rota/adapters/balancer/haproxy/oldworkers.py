"""The workers that a reload left: told to pass new requests on to the one that took their place, then read and cut, all
through the master's socket; used by balancer.py.

An old worker refuses every command about its servers ("Proxy is disabled"), so it can neither drain one nor put it in
maint; its maps it changes still. From the moment that its PASSED_MAP has an entry, what comes over its kept connections
goes to the new worker, and only what it had begun before may still reach a server of its own: a request that no server
has answered yet may be sent to another one of its backend; an answer under way, a WebSocket included, may not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence

from rota.adapters.balancer.haproxy.rows import Rows, read_counts
from rota.adapters.balancer.haproxy.sessions import Session, in_full, listed
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.socket import NotAnswering, call
from rota.adapters.balancer.haproxy.stats import ROWS
from rota.adapters.balancer.haproxy.succession import NEXT, PASSED_KEY, PASSED_MAP
from rota.adapters.balancer.haproxy.worker import process_id, whole, wholly

_DEADLINE, _TRIES = 0.25, 20  # seconds: the master says nothing for a worker that ends while it is asked
_BACKEND = ",BACKEND,"  # is in any answer of a process that lives


class OldWorkers:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._passing: set[str] = set()
        self._answered: dict[str, frozenset[str]] = {}

    async def pass_on(self, pid: int) -> bool:
        """From now on it sends new requests to its successor; False when it does not say so: it has ended, or it is of
        an earlier rota's file."""
        process = process_id(pid)
        if process is None:
            return False
        if process not in self._passing:
            with contextlib.suppress(NotAnswering):
                await self._ask(pid, f"add map {PASSED_MAP} {PASSED_KEY} {NEXT}")
                if PASSED_KEY in (await self._ask(pid, f"show map {PASSED_MAP}")).split():
                    self._passing.add(process)
        return process in self._passing

    async def read(self, pid: int) -> Rows | None:
        """Its rows, and the backends to whose servers it may still send; None when it has ended."""
        for _ in range(_TRIES):
            process = process_id(pid)
            if process is None:
                return None
            with contextlib.suppress(NotAnswering):
                # What may still be sent comes first: a request that moves from server to server meanwhile is seen
                # where it was, or counted where it is.
                sends = await self._sends(pid, process) if await self.pass_on(pid) else None
                answer = await self._ask(pid, ROWS)
                return await wholly(read_counts(answer, sends)) if _BACKEND in answer else None
        return None

    async def read_all(self, pids: Sequence[int]) -> dict[str, Rows]:
        """By process; nothing is remembered of any other."""
        self.forget(pids)
        found = {process_id(pid): await self.read(pid) for pid in pids}
        return {process: reading for process, reading in found.items() if process is not None and reading is not None}

    async def sessions(self, pid: int) -> list[Session]:
        """All that is open in it; nothing once it has ended. Raises NotAnswering."""
        return whole(in_full, await self._ask(pid, "show sess all"))

    async def end(self, pid: int, session: Session) -> None:
        """Ends one. A worker that has ended is no error. Raises NotAnswering."""
        await self._ask(pid, f"shutdown session {session.id}")

    def forget(self, living: Iterable[int]) -> None:
        """Keeps nothing of workers that are no more."""
        known = {process_id(pid) for pid in living}
        self._passing &= known
        self._answered = {process: ids for process, ids in self._answered.items() if process in known}

    async def _sends(self, pid: int, process: str) -> frozenset[str] | None:
        """None: to any, as one request has no backend yet."""
        own = [session for session in whole(listed, await self._ask(pid, "show sess")) if not session.passed]
        answered = self._answered.get(process, frozenset())
        if any(session.id not in answered for session in own):
            answered = frozenset(session.id for session in await self.sessions(pid) if session.settled)
        # A new session may take the address, and so the id, of one that has ended, but never its backend any more.
        self._answered[process] = answered & {session.id for session in own}
        waiting = [session for session in own if session.id not in answered]
        if any(session.backend is None for session in waiting):
            return None
        return frozenset(session.backend for session in waiting if session.backend is not None)

    async def _ask(self, pid: int, line: str) -> str:
        return await call(self._settings.master_socket, f"@!{pid} {line}", _DEADLINE)
