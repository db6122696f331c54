"""The command ``rota dns``: ls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from json import dumps
from typing import Annotated

import typer

from rota.cli import output
from rota.cli.commands.arguments import AsJson, example
from rota.cli.connection import Connection, View
from rota.cli.table import table

_EVERY = 0.5  # seconds


def add_to(commands: typer.Typer) -> None:
    group = typer.Typer(help="Show what DNS says of the replicas.", no_args_is_help=True)
    group.command("ls", epilog=example("rota dns ls", "rota dns ls --watch", "rota dns ls --json"))(ls)
    commands.add_typer(group, name="dns")


Watch = Annotated[bool, typer.Option("--watch", help="Go on with a line a change, until it is interrupted.")]


def ls(watch: Watch = False, json: AsJson = False) -> None:
    """List the records of every app, view by view, and the views that have trouble."""
    connection = Connection()
    view = connection.get("/api/v1/dns")
    if watch:
        first = dumps(view) if json else _shown(view)
        output.answer_lines(chain([first], _changes(connection, view, json=json)))
    elif json:
        output.answer_json(view)
    else:
        output.answer(_shown(view))


def _changes(connection: Connection, last: View, *, json: bool) -> Iterator[str]:
    """What is different each time; with ``json`` one object a change, on a line."""
    while True:
        time.sleep(_EVERY)
        now = connection.get("/api/v1/dns")
        before, after = _states(last), _states(now)
        at = datetime.now().astimezone().strftime("%H:%M:%S")
        for place in sorted(before.keys() | after.keys()):
            was, is_ = before.get(place, "absent"), after.get(place, "absent")
            if was != is_ and json:
                yield dumps({**dict(zip(("app", "replica", "view"), place, strict=True)), "was": was, "state": is_})
            elif was != is_:
                yield f"{at} {place[1]} in {place[2]}: {was}, now {is_}"
        last = now


def _states(view: View) -> dict[tuple[str, str, str], str]:
    """Of each replica in each view, and of a view by itself."""
    records = {(entry["app"], entry["replica"], entry["view"]): entry["state"] for entry in view["records"]}
    troubles = {(entry["app"], "all", entry["view"]): entry["trouble"] for entry in view["views"] if entry["trouble"]}
    return records | troubles


def _shown(view: View) -> str:
    if not view["views"]:
        return "the server keeps no DNS, or has no app yet; rota serve --dns and --dns-zones turn it on"
    rows = [
        (entry["app"], entry["replica"], entry["view"], entry["state"], entry["address"], " ".join(entry["names"]))
        for entry in view["records"]
    ]
    trouble = [f"{entry['view']} ({entry['app']}): {entry['trouble']}" for entry in view["views"] if entry["trouble"]]
    return "\n".join([table(("APP", "REPLICA", "VIEW", "STATE", "ADDRESS", "NAMES"), rows), *trouble])
