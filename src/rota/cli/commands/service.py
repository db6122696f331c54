"""Commands about the server itself: shutdown, and serve's place in the help."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from rota.cli import output
from rota.cli.commands.arguments import example
from rota.cli.connection import Connection, Lost
from rota.core.errors import RotaError, Unreachable

SHUTDOWN_SECONDS = 300.0  # the longest drain and stop periods in common use, one after the other

Serve = Callable[[list[str]], int]


def add_to(commands: typer.Typer, serve: Serve) -> None:
    commands.command("shutdown", epilog=example("rota shutdown", "rota shutdown --keep-apps"))(shutdown)

    @commands.command(
        "serve",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog=example("rota serve --data-dir /srv/rota"),
    )
    def serving(context: typer.Context) -> None:
        """Run the server; rota serve --help has its options."""
        raise typer.Exit(serve(context.args))


def shutdown(
    keep_apps: Annotated[
        bool, typer.Option("--keep-apps", help="End only the server; the apps go on serving.")
    ] = False,
) -> None:
    """Stop replicas, HAProxy and the server, in this order."""
    connection = Connection()
    connection.post("/api/v1/shutdown", {"keep_apps": keep_apps})
    output.tell("stopping")
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while _answers(connection):
        if time.monotonic() > deadline:
            raise RotaError(
                f"the server has not stopped after {SHUTDOWN_SECONDS:.0f} s; its log says what it waits for"
            )
        time.sleep(0.1)
    output.answer("the server has stopped; the apps go on" if keep_apps else "the server and its apps have stopped")


def _answers(connection: Connection) -> bool:
    try:
        connection.get("/healthz")
    except Lost:
        return True
    except Unreachable:
        return False
    return True
