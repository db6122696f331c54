"""Commands about the server itself: shutdown, and serve's place in the help."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
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
    pid = _pid_here(connection)
    connection.post("/api/v1/shutdown", {"keep_apps": keep_apps})
    output.tell("stopping")
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while _answers(connection) or (pid is not None and _runs(pid)):
        if time.monotonic() > deadline:
            raise RotaError(
                f"the server has not stopped after {SHUTDOWN_SECONDS:.0f} s; its log says what it waits for"
            )
        time.sleep(0.1)
    output.answer("the server has stopped; the apps go on" if keep_apps else "the server and its apps have stopped")


def _pid_here(connection: Connection) -> int | None:
    """The server's process, where it is one of this machine's: it ends some time after it answered last."""
    pid = connection.get("/api/v1/server").get("pid")
    if pid is None or not connection.address.is_loopback or not _runs(pid):
        return None
    return int(pid)


def _runs(pid: int) -> bool:
    """A port may lead into a container, where the number is another process's: so its command is looked at, which is
    empty for one that has ended and was not reaped."""
    try:
        return b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False


def _answers(connection: Connection) -> bool:
    try:
        connection.get("/healthz")
    except Lost:
        return True
    except Unreachable:
        return False
    return True
