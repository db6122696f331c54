"""The rows of the outbox and of open incidents: each function reads or writes some inside the store's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from rota.adapters.store import codec
from rota.core.notice import Letter

FAILED_KEPT = 1000  # letters that were given up, the newest
SHOWN = 100


def add(connection: sqlite3.Connection, letters: Iterable[Letter]) -> None:
    for letter in letters:
        added = connection.execute(
            "INSERT INTO letters (next_try, body) VALUES (?, ?)", (letter.next_try, codec.letter_text(letter))
        )
        oldest = (added.lastrowid or 0) - FAILED_KEPT
        connection.execute("DELETE FROM letters WHERE next_try IS NULL AND number <= ?", (oldest,))


def due(connection: sqlite3.Connection, now: float) -> tuple[Letter, ...]:
    rows = connection.execute(
        "SELECT body, number, next_try FROM ("
        " SELECT *, row_number() OVER (PARTITION BY json_extract(body, '$.url') ORDER BY next_try, number) AS place"
        " FROM letters WHERE next_try <= ?"
        ") WHERE place = 1 ORDER BY next_try, number",
        (now,),
    )
    return tuple(codec.letter_of(*row) for row in rows)


def next_due(connection: sqlite3.Connection, after: float) -> float | None:
    rows = connection.execute("SELECT min(next_try) FROM letters WHERE next_try > ?", (after,))
    found: float | None = rows.fetchone()[0]
    return found


def write(connection: sqlite3.Connection, letter: Letter) -> None:
    connection.execute(
        "UPDATE letters SET next_try = ?, body = ? WHERE number = ?",
        (letter.next_try, codec.letter_text(letter), letter.number),
    )


def drop(connection: sqlite3.Connection, number: int) -> None:
    connection.execute("DELETE FROM letters WHERE number = ?", (number,))


def failed(connection: sqlite3.Connection) -> tuple[Letter, ...]:
    rows = connection.execute(
        "SELECT body, number, next_try FROM letters WHERE json_extract(body, '$.failure') <> '' "
        "ORDER BY number DESC LIMIT ?",
        (SHOWN,),
    )
    return tuple(codec.letter_of(*row) for row in rows)


def incident(connection: sqlite3.Connection, name: str) -> bool:
    return connection.execute("SELECT 1 FROM incidents WHERE name = ?", (name,)).fetchone() is not None


def write_incident(connection: sqlite3.Connection, name: str, lasts: bool) -> None:
    if lasts:
        connection.execute("INSERT OR IGNORE INTO incidents (name) VALUES (?)", (name,))
    else:
        connection.execute("DELETE FROM incidents WHERE name = ?", (name,))
