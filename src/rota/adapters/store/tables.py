"""The rows of the database: each function reads or writes some of them inside the store's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import rota
from rota.adapters.store import codec
from rota.core.errors import StepFailed
from rota.core.events import Event
from rota.core.rollout import Rollout
from rota.core.state import AppState, Release
from rota.ports.store import Answer

EVENTS_KEPT = 100_000
ROLLOUTS_KEPT = 10_000
ANSWERS_KEPT = 10_000
LONG_ANSWER, ANSWERS_SIZE = 64 * 2**10, 64 * 2**20  # characters; what a command has written may be a million
PRUNED_EVERY = 1000


def states(connection: sqlite3.Connection) -> tuple[AppState, ...]:
    """Raises StepFailed naming the app that cannot be read."""
    rows = connection.execute(
        "SELECT apps.name, apps.body, rollouts.body FROM apps "
        "LEFT JOIN rollouts ON rollouts.number = apps.rollout ORDER BY apps.name"
    )
    return tuple(_state(connection, *row) for row in rows.fetchall())


def _state(connection: sqlite3.Connection, name: str, body: str, rollout: str | None) -> AppState:
    """A later rota writes keys that this one does not know, and may take what this one refuses."""
    try:
        return codec.state_of(body, _releases(connection, name), codec.rollout_of(rollout) if rollout else None)
    except ValueError as error:
        raise StepFailed(
            f"what is kept of the app {name!r} cannot be read by rota {rota.__version__}; install the rota again that "
            f"wrote it, or start this one with another --data-dir ({' '.join(str(error).split())[:300]})"
        ) from error


def write_state(connection: sqlite3.Connection, state: AppState, before: AppState | None) -> None:
    """Writes what differs from ``before``: what is known to be in the database of this app; None: nothing is known."""
    rollout = state.recorded.rollout
    if rollout is not None and (before is None or rollout != before.recorded.rollout):
        _write_rollout(connection, rollout)
    if before is None or state.desired is not before.desired or state.recorded is not before.recorded:
        _write_app(connection, state)
    if before is None:
        connection.execute("DELETE FROM releases WHERE app = ?", (state.name,))
    _write_releases(connection, state.name, state.releases, before.releases if before else {})


def delete_state(connection: sqlite3.Connection, app: str) -> None:
    connection.execute("DELETE FROM apps WHERE name = ?", (app,))


def append_events(connection: sqlite3.Connection, events: Iterable[Event]) -> tuple[Event, ...]:
    return tuple(_append(connection, event) for event in events)


def rollouts(connection: sqlite3.Connection, app: str | None, limit: int) -> tuple[Rollout, ...]:
    where, values = _conditions({"app = ?": app})
    rows = connection.execute(
        f"SELECT body FROM rollouts {where} ORDER BY number DESC LIMIT ?",  # noqa: S608 - constants and ? only
        (*values, limit),
    )
    return tuple(codec.rollout_of(body) for (body,) in rows)


def rollout(connection: sqlite3.Connection, name: str) -> Rollout | None:
    row = connection.execute(
        "SELECT body FROM rollouts WHERE name = ? ORDER BY number DESC LIMIT 1", (name,)
    ).fetchone()
    return codec.rollout_of(row[0]) if row else None


def events(
    connection: sqlite3.Connection, app: str | None, rollout: str | None, after: int, limit: int
) -> tuple[Event, ...]:
    """The oldest after ``after``, or with -1 the newest; the lower ``seq`` first either way."""
    newest = after < 0
    where, values = _conditions({"app = ?": app, "rollout = ?": rollout, "seq > ?": None if newest else after})
    order = "DESC" if newest else "ASC"
    rows = connection.execute(
        f"SELECT seq, body FROM events {where} ORDER BY seq {order} LIMIT ?",  # noqa: S608 - constants and ? only
        (*values, limit),
    ).fetchall()
    return tuple(codec.event_of(body, seq) for seq, body in (reversed(rows) if newest else rows))


def answer(connection: sqlite3.Connection, key: str) -> Answer | None:
    row = connection.execute("SELECT fingerprint, status, body FROM answers WHERE key = ?", (key,)).fetchone()
    return Answer(*row) if row else None


def write_answer(connection: sqlite3.Connection, key: str, answer: Answer) -> None:
    added = connection.execute(
        "INSERT OR REPLACE INTO answers (key, fingerprint, status, body) VALUES (?, ?, ?, ?)",
        (key, answer.fingerprint, answer.status, answer.body),
    )
    connection.execute("DELETE FROM answers WHERE number <= ?", ((added.lastrowid or 0) - ANSWERS_KEPT,))
    if len(answer.body) > LONG_ANSWER:  # counting reads all that is kept: not for each short one
        connection.execute(
            "DELETE FROM answers WHERE number IN (SELECT number FROM ("
            " SELECT number, sum(length(body)) OVER (ORDER BY number DESC) AS total FROM answers"
            ") WHERE total > ?)",
            (ANSWERS_SIZE,),
        )


def _releases(connection: sqlite3.Connection, app: str) -> dict[int, Release]:
    rows = connection.execute("SELECT number, body FROM releases WHERE app = ? ORDER BY number", (app,))
    return {number: codec.release_of(body) for number, body in rows}


def _write_app(connection: sqlite3.Connection, state: AppState) -> None:
    rollout = state.recorded.rollout
    connection.execute(
        "INSERT INTO apps (name, body, rollout) "
        "VALUES (?, ?, (SELECT number FROM rollouts WHERE name = ? AND created_at = ?)) "
        "ON CONFLICT (name) DO UPDATE SET body = excluded.body, rollout = excluded.rollout",
        (
            state.name,
            codec.state_text(state),
            rollout.id if rollout else None,
            float(rollout.created_at) if rollout else None,
        ),
    )


def _write_rollout(connection: sqlite3.Connection, rollout: Rollout) -> None:
    """A rollout keeps the number of its first writing: the history is in the order of the beginnings."""
    body = codec.rollout_text(rollout)
    changed = connection.execute(
        "UPDATE rollouts SET body = ? WHERE name = ? AND created_at = ?", (body, rollout.id, float(rollout.created_at))
    )
    if changed.rowcount:
        return
    added = connection.execute(
        "INSERT INTO rollouts (name, created_at, app, body) VALUES (?, ?, ?, ?)",
        (rollout.id, float(rollout.created_at), rollout.app, body),
    )
    connection.execute(
        "DELETE FROM rollouts WHERE number <= ? AND number NOT IN (SELECT rollout FROM apps WHERE rollout IS NOT NULL)",
        ((added.lastrowid or 0) - ROLLOUTS_KEPT,),
    )


def _write_releases(
    connection: sqlite3.Connection, app: str, releases: Mapping[int, Release], before: Mapping[int, Release]
) -> None:
    if releases is before:
        return
    gone = [(app, number) for number in before if number not in releases]
    changed = [
        (app, number, codec.release_text(release))
        for number, release in releases.items()
        if release != before.get(number)
    ]
    connection.executemany("DELETE FROM releases WHERE app = ? AND number = ?", gone)
    connection.executemany("INSERT OR REPLACE INTO releases (app, number, body) VALUES (?, ?, ?)", changed)


def _append(connection: sqlite3.Connection, event: Event) -> Event:
    added = connection.execute(
        "INSERT INTO events (app, rollout, body) VALUES (?, ?, ?)", (event.app, event.rollout, codec.event_text(event))
    )
    seq = added.lastrowid or 0
    if seq % PRUNED_EVERY == 0:
        connection.execute("DELETE FROM events WHERE seq <= ?", (seq - EVENTS_KEPT,))
    return replace(event, seq=seq)


def _conditions(given: Mapping[str, object]) -> tuple[str, Sequence[object]]:
    """The WHERE clause of those conditions that have a value, and the values."""
    used = {condition: value for condition, value in given.items() if value is not None}
    return ("WHERE " + " AND ".join(used) if used else ""), tuple(used.values())
