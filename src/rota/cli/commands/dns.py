"""The command ``rota dns``: ls."""

from __future__ import annotations

import typer

from rota.cli import output
from rota.cli.commands.arguments import AsJson, example
from rota.cli.connection import Connection, View
from rota.cli.table import table


def add_to(commands: typer.Typer) -> None:
    group = typer.Typer(help="Show what DNS says of the replicas.", no_args_is_help=True)
    group.command("ls", epilog=example("rota dns ls", "rota dns ls --json"))(ls)
    commands.add_typer(group, name="dns")


def ls(json: AsJson = False) -> None:
    """List the records of every app, view by view, and the views that have trouble."""
    view = Connection().get("/api/v1/dns")
    output.answer_json(view) if json else output.answer(_shown(view))


def _shown(view: View) -> str:
    if not view["views"]:
        return "the server keeps no DNS, or has no app yet; rota serve --dns and --dns-zones turn it on"
    rows = [
        (entry["app"], entry["replica"], entry["view"], entry["state"], entry["address"], " ".join(entry["names"]))
        for entry in view["records"]
    ]
    trouble = [f"{entry['view']} ({entry['app']}): {entry['trouble']}" for entry in view["views"] if entry["trouble"]]
    return "\n".join([table(("APP", "REPLICA", "VIEW", "STATE", "ADDRESS", "NAMES"), rows), *trouble])
