"""Commands that show what there is: ls, ps, status, stats, releases."""

from __future__ import annotations

from typing import Annotated

import typer

from rota.cli import overview
from rota.cli.commands.arguments import App, AsJson, example

MaybeApp = Annotated[
    str | None, typer.Argument(metavar="[APP]", help="The app's name; may be left out.", show_default=False)
]


def add_to(commands: typer.Typer) -> None:
    commands.command("ls", epilog=example("rota ls"))(ls)
    commands.command("ps", epilog=example("rota ps hello", "rota ps hello --json"))(ps)
    commands.command("status", epilog=example("rota status hello"))(status)
    commands.command("stats", epilog=example("rota stats", "rota stats hello --json"))(stats)
    commands.command("releases", epilog=example("rota releases hello"))(releases)


def ls(json: AsJson = False) -> None:
    """List the apps."""
    overview.ls(json)


def ps(app: MaybeApp = None, json: AsJson = False) -> None:
    """List an app's replicas."""
    overview.ps(app, json)


def status(app: MaybeApp = None, json: AsJson = False) -> None:
    """Show an app, or all: addresses, every replica, the last rollout with its receipt."""
    overview.status(app, json)


def stats(app: MaybeApp = None, json: AsJson = False) -> None:
    """Show what the replicas use (memory, CPU) and serve (requests)."""
    overview.stats(app, json)


def releases(app: App, json: AsJson = False) -> None:
    """List an app's releases, newest first."""
    overview.releases(app, json)
