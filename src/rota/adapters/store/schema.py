"""The form of the database: numbered SQL files, applied once each when the store opens the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from importlib import resources
from pathlib import Path

from rota.core.errors import Missing, StepFailed

APPLICATION_ID = 1919906913  # "rota" in ASCII: marks the file as rota's


def scripts() -> Mapping[int, str]:
    """The SQL of each form, by its number."""
    folder = resources.files(__package__) / "migrations"
    files = (file for file in folder.iterdir() if file.name.endswith(".sql"))
    return {int(file.name.partition("_")[0]): file.read_text("utf-8") for file in files}


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Raises StepFailed when the file is a database of something else."""
    mark = _pragma(connection, "application_id")
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if mark != APPLICATION_ID and tables:
        raise StepFailed(f"{path} is a database, but not rota's; start rota with another --data-dir")


def migrate(connection: sqlite3.Connection, path: Path, known: Mapping[int, str] | None = None) -> None:
    """Applies what is missing of ``known`` (by default all of rota's), each in one transaction.

    A file that has a form already is copied first, to ``<name>.form-<number>``. Raises Missing when a newer rota wrote
    the file."""
    known = scripts() if known is None else known
    form = _pragma(connection, "user_version")
    newest = max(known)
    if form > newest:
        raise Missing(
            f"{path} was written by a newer rota (form {form}, this rota knows {newest}): "
            "install that rota again, or start this one with another --data-dir"
        )
    if 0 < form < newest:
        _copy(connection, path.with_name(f"{path.name}.form-{form}"))
    for number in sorted(number for number in known if number > form):
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {known[number]}; PRAGMA user_version = {number}; COMMIT;")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    """A whole copy under its name, or nothing there: it is written under another name first."""
    unfinished = target.with_name(f"{target.name}.new")
    unfinished.unlink(missing_ok=True)
    os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(unfinished)) as copy:
        connection.backup(copy)
    unfinished.replace(target)
