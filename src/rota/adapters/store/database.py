"""The one SQLite connection of a data directory: its settings, its transactions and what its errors mean for a
person; used by the store in the store's own thread.

SQLite 3.7.0 to 3.51.2 can damage a WAL database that two connections write: nothing else ever opens this file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rota.adapters.store import schema
from rota.core.errors import Conflict, StepFailed

_SETTINGS = (
    # Before WAL: SQLite then keeps the WAL's index in memory and holds the file's lock until it is closed.
    "PRAGMA locking_mode = EXCLUSIVE",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA journal_size_limit = 8388608",
)


class Database:
    """Raises StepFailed with a message for a person whenever the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        """Opens the file, makes it if it is not there, and brings it to the newest form.

        Raises Conflict while another process has it open, Missing when a newer rota wrote it."""
        self._path = path
        with self._explained():
            _make_private(path)
            self._connection = sqlite3.connect(path, timeout=1, isolation_level=None)
        try:
            with self._explained():
                self._prepare()
        except BaseException:
            self._connection.close()
            raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All that is written inside is durable when the block is left, or none of it is."""
        with self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            finally:
                # A full disk may have made SQLite itself roll back.
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        with self._explained():
            yield self._connection

    def close(self) -> None:
        with self._explained():
            self._connection.close()

    def _prepare(self) -> None:
        for setting in _SETTINGS:
            self._connection.execute(setting)
        # WAL is entered with a read: only a write takes the lock for good.
        with self.transaction() as connection:
            schema.check(connection, self._path)
        with closing(self._connection.execute("PRAGMA quick_check(1)")) as rows:
            verdict = rows.fetchone()[0]
        if verdict != "ok":
            raise StepFailed(_damaged(self._path, verdict))
        schema.migrate(self._connection, self._path)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StepFailed(f"cannot open {self._path}: {error.strerror}") from error
        except sqlite3.Error as error:
            explained = _explain(error, self._path)
            if explained is None:
                raise
            raise explained from error


def _make_private(path: Path) -> None:
    """Makes the file before SQLite does: only its owner may read it, and the WAL gets the same mode.

    A file that is there is not opened: closing it again would drop the locks that this process has on it."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        path.chmod(0o600)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _explain(error: sqlite3.Error, path: Path) -> StepFailed | Conflict | None:
    """None for what only a mistake in rota can cause (wrong SQL, a broken constraint)."""
    code = getattr(error, "sqlite_errorcode", None)
    match code & 0xFF if code is not None else None:  # the low byte is the primary code (sqlite.org/rescode.html)
        case sqlite3.SQLITE_FULL:
            return StepFailed(f"cannot write {path}: disk full; free some space, rota goes on by itself")
        case sqlite3.SQLITE_IOERR:
            name = getattr(error, "sqlite_errorname", "SQLITE_IOERR")
            return StepFailed(
                f"cannot read or write {path}: {error} ({name}); look after the disk and its quotas, "
                "rota tries again by itself"
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return StepFailed(f"cannot write {path}: {error}; make it and its directory writable for rota")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return StepFailed(_damaged(path, str(error)))
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Conflict(f"{path} is in use by another process; end the rota that serves from it first")
    return None


def _damaged(path: Path, detail: str) -> str:
    return (
        f"{path} is damaged ({detail}); put a backup of it in its place, or move it away with its -wal file "
        "and deploy the apps again"
    )
