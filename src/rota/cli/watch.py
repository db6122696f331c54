"""Waiting for a rollout: follows its events until it is settled, whatever happens to the server meanwhile; used by
every command that begins one and by ``rota rollout watch``."""

from __future__ import annotations

import sys
from typing import Protocol

from rota.cli import output, wording
from rota.cli.connection import Connection, View, quoted
from rota.cli.outcome import ENDED, SETTLED
from rota.cli.stream import PATIENCE_SECONDS, Follower
from rota.core.errors import NotFound, Unreachable

ABSENT = f"the server does not answer; what runs goes on without it, waiting for it up to {PATIENCE_SECONDS:.0f} s"


class Display(Protocol):
    """What a waiting person sees."""

    def __enter__(self) -> Display: ...

    def __exit__(self, *exc: object) -> None: ...

    def event(self, event: View) -> None: ...

    def notice(self, text: str) -> None: ...


class Lines:
    """One line an event: for a pipe, a log, or a terminal that can do no more."""

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def event(self, event: View) -> None:
        text = wording.event(event)
        if text is not None:
            output.tell(text)

    def notice(self, text: str) -> None:
        output.tell(text)


def watch(connection: Connection, rollout: View) -> View:
    """The rollout as it is once settled. Raises Unreachable when the server stays away for PATIENCE_SECONDS."""
    with _display(connection, rollout) as display:
        try:
            return _until_settled(connection, rollout, display)
        except NotFound:
            if rollout["kind"] != "remove":
                raise
            return rollout | {"phase": "succeeded"}  # its record went with the app


def _until_settled(connection: Connection, rollout: View, display: Display) -> View:
    follower = Follower(connection, f"/api/v1/rollouts/{rollout['id']}/events", lambda: display.notice(ABSENT))
    while True:
        for event in follower.once():
            display.event(event)
            if event["kind"] == "phase" and event.get("phase") in SETTLED:
                view = _now(connection, rollout, follower)
                if _is_last(connection, view, event):
                    return view
        view = _now(connection, rollout, follower)
        if view["phase"] in ENDED:
            for event in follower.once():  # it ended while the stream was broken: this one has the rest
                display.event(event)
        if view["phase"] in SETTLED:
            return view


def _is_last(connection: Connection, view: View, event: View) -> bool:
    """Whether the rollout is now as the event says: one that was resumed has older pauses among its events."""
    if view["phase"] != event["phase"]:
        return False
    if view["phase"] in ENDED:
        return True
    newest = connection.get(f"/api/v1/events?app={quoted(view['app'])}")["events"]
    moves = [entry["seq"] for entry in newest if (entry["rollout"], entry["kind"]) == (view["id"], "phase")]
    return bool(event["seq"] >= max(moves, default=0))


def _now(connection: Connection, rollout: View, follower: Follower) -> View:
    while True:
        try:
            return connection.get(f"/api/v1/rollouts/{rollout['id']}")
        except Unreachable as error:
            follower.wait_after_loss(error)


def _display(connection: Connection, rollout: View) -> Display:
    if not sys.stderr.isatty():
        return Lines()
    from rota.cli.progress import Progress

    return Progress(connection, rollout)
