"""The commands ``rota maintenance``: on, off."""

from __future__ import annotations

import time

import typer

from rota.cli import output
from rota.cli.commands.arguments import App, AsJson, example
from rota.cli.connection import Connection, View, quoted

_PATIENCE_SECONDS = 10.0


def add_to(commands: typer.Typer) -> None:
    group = typer.Typer(help="Answer an app's users with a page, or let them in again.", no_args_is_help=True)
    group.command("on", epilog=example("rota maintenance on hello"))(on)
    group.command("off", epilog=example("rota maintenance off hello"))(off)
    commands.add_typer(group, name="maintenance")


def on(app: App, json: AsJson = False) -> None:
    """Answer every request with 503, Retry-After and a page; replicas and rollouts go on beneath."""
    _ask(app, on=True, as_json=json)


def off(app: App, json: AsJson = False) -> None:
    """Send requests to the replicas again."""
    _ask(app, on=False, as_json=json)


def _ask(app: str, *, on: bool, as_json: bool) -> None:
    connection = Connection()
    view = connection.post(f"/api/v1/apps/{quoted(app)}/maintenance", {"on": on})
    view = _until_in_force(connection, app, view)
    if as_json:
        output.answer_json(view)
    elif view["maintenance_in_force"] != on:
        output.answer(f"{app}: maintenance will be {_word(on)} as soon as HAProxy answers")
    else:
        output.answer(f"{app}: maintenance is {_word(on)}")


def _until_in_force(connection: Connection, app: str, view: View) -> View:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while view["maintenance_in_force"] != view["maintenance"] and time.monotonic() < deadline:
        time.sleep(0.05)
        view = connection.get(f"/api/v1/apps/{quoted(app)}")
    return view


def _word(on: bool) -> str:
    return "on" if on else "off"
