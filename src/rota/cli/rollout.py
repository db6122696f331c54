"""Beginning a rollout and seeing it through: sends the order once, waits, prints the receipt, gives the exit code; used
by every rollout-making command."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

import typer

from rota.cli import output, wording
from rota.cli.connection import Connection, Lost, View, quoted
from rota.cli.outcome import DETACHED, exit_code
from rota.cli.policy import Waiting
from rota.cli.watch import watch
from rota.core.errors import Unreachable

Wait = Callable[[Connection, View], View]
_SEND_AGAIN_SECONDS = 10.0


def run(connection: Connection, app: str, body: View, flags: Waiting) -> None:
    """Begins it and does with it as the flags say; exits with the rollout's code."""
    rollout = begin(connection, app, body)
    if not flags.wait:
        output.answer_json(rollout) if flags.json else output.answer(rollout["id"])
        return
    see_through(connection, rollout, as_json=flags.json, fail_on_loss=flags.fail_on_loss)


def begin(connection: Connection, app: str, body: View) -> View:
    """Sends an order; when the answer is lost, the same one again under the same key, so that it is carried out
    once. Ctrl-C exits with 130, and with how to find out whether the server has it."""
    try:
        return _sent(connection, app, body)
    except KeyboardInterrupt:
        output.tell(f"\nthe server may have taken the order for {app}; look with: rota rollout watch {app}")
        raise typer.Exit(DETACHED) from None


def _sent(connection: Connection, app: str, body: View) -> View:
    key, path = uuid.uuid4().hex, f"/api/v1/apps/{quoted(app)}/rollouts"
    deadline = time.monotonic() + _SEND_AGAIN_SECONDS
    try:
        return connection.post(path, body, key=key)
    except Lost:
        pass
    while True:
        try:
            return connection.post(path, body, key=key)
        except Unreachable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def see_through(connection: Connection, rollout: View, *, as_json: bool, fail_on_loss: bool) -> None:
    """Waits, prints what came of it and exits with its code."""
    code = _ending(connection, rollout, as_json, fail_on_loss)
    raise typer.Exit(code)


def settle(connection: Connection, rollout: View, wait: Wait = watch) -> View:
    """Waits for the end, or for what else is to be waited for; Ctrl-C leaves the rollout to itself and exits with
    130."""
    try:
        return wait(connection, rollout)
    except KeyboardInterrupt:
        output.tell(f"\n{rollout['id']} goes on; come back with: rota rollout watch {rollout['id']}")
        raise typer.Exit(DETACHED) from None


def _ending(connection: Connection, rollout: View, as_json: bool, fail_on_loss: bool) -> int:
    view = settle(connection, rollout)
    if as_json:
        output.answer_json(view)
    else:
        output.answer_lines(wording.ending(view))
    return exit_code(view, fail_on_loss)
