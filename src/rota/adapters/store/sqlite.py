"""The store over one SQLite file: a thread of its own holds the connection, the engine awaits it."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Self, TypeVar

from rota.adapters.store import outbox, tables
from rota.adapters.store.database import Database
from rota.core.events import Event
from rota.core.notice import Letter
from rota.core.rollout import Rollout
from rota.core.state import AppState
from rota.ports.store import Answer

_Result = TypeVar("_Result")


class SqliteStore:
    """Fulfils the Store port; made by ``open``."""

    def __init__(self, database: Database, thread: ThreadPoolExecutor) -> None:
        self._database = database
        self._thread = thread
        # What the file is known to hold; touched in the thread only. An app is out of it while a write may fail: the
        # next save then writes it whole.
        self._written: dict[str, AppState] = {}

    @classmethod
    async def open(cls, path: Path) -> Self:
        """Opens or makes the database file; its directory has to be there.

        Raises StepFailed when the file cannot be used (damaged, not rota's, not writable, disk full), Conflict while
        another process has it open, Missing when a newer rota wrote it."""
        with ExitStack() as undo:
            thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rota-store")
            undo.callback(thread.shutdown, wait=False)
            database = await asyncio.get_running_loop().run_in_executor(thread, Database, path)
            undo.pop_all()
        return cls(database, thread)

    async def load(self) -> tuple[AppState, ...]:
        def load(connection: sqlite3.Connection) -> tuple[AppState, ...]:
            states = tables.states(connection)
            self._written.update((state.name, state) for state in states)
            return states

        return await self._read(load)

    async def save(self, state: AppState, events: Sequence[Event], letters: Sequence[Letter] = ()) -> tuple[Event, ...]:
        def save(connection: sqlite3.Connection) -> tuple[Event, ...]:
            tables.write_state(connection, state, self._written.pop(state.name, None))
            outbox.add(connection, letters)
            return tables.append_events(connection, events)

        return await self._write(save, lambda: self._written.update({state.name: state}))

    async def forget(self, app: str, events: Sequence[Event]) -> tuple[Event, ...]:
        def forget(connection: sqlite3.Connection) -> tuple[Event, ...]:
            self._written.pop(app, None)
            tables.delete_state(connection, app)
            return tables.append_events(connection, events)

        return await self._write(forget)

    async def rollouts(self, app: str | None, limit: int) -> tuple[Rollout, ...]:
        return await self._read(lambda connection: tables.rollouts(connection, app, limit))

    async def rollout(self, name: str) -> Rollout | None:
        return await self._read(lambda connection: tables.rollout(connection, name))

    async def events(
        self, *, app: str | None = None, rollout: str | None = None, after: int = 0, limit: int = 1000
    ) -> tuple[Event, ...]:
        return await self._read(lambda connection: tables.events(connection, app, rollout, after, limit))

    async def answer(self, key: str) -> Answer | None:
        return await self._read(lambda connection: tables.answer(connection, key))

    async def keep_answer(self, key: str, answer: Answer) -> None:
        await self._write(lambda connection: tables.write_answer(connection, key, answer))

    async def due_letters(self, now: float) -> tuple[Letter, ...]:
        return await self._read(lambda connection: outbox.due(connection, now))

    async def next_letter(self, after: float) -> float | None:
        return await self._read(lambda connection: outbox.next_due(connection, after))

    async def put_off(self, letter: Letter) -> None:
        await self._write(lambda connection: outbox.write(connection, letter))

    async def drop_letter(self, number: int) -> None:
        await self._write(lambda connection: outbox.drop(connection, number))

    async def unsent(self) -> tuple[Letter, ...]:
        return await self._read(outbox.failed)

    async def incident(self, name: str) -> bool:
        return await self._read(lambda connection: outbox.incident(connection, name))

    async def keep_incident(self, name: str, lasts: bool, letters: Sequence[Letter]) -> None:
        def keep(connection: sqlite3.Connection) -> None:
            outbox.write_incident(connection, name, lasts)
            outbox.add(connection, letters)

        await self._write(keep)

    async def close(self) -> None:
        """Ends the thread; what is under way is finished first. Nothing may be asked of the store afterwards."""
        try:
            await self._run(self._database.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _read(self, query: Callable[[sqlite3.Connection], _Result]) -> _Result:
        def read() -> _Result:
            with self._database.reading() as connection:
                return query(connection)

        return await self._run(read)

    async def _write(
        self, change: Callable[[sqlite3.Connection], _Result], committed: Callable[[], None] = lambda: None
    ) -> _Result:
        def write() -> _Result:
            with self._database.transaction() as connection:
                result = change(connection)
            committed()
            return result

        return await self._run(write)

    async def _run(self, call: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
