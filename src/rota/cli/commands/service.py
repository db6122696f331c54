"""Commands about the server itself: shutdown, and serve's place in the help."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from rota.cli import output
from rota.cli.commands.arguments import example
from rota.cli.connection import Connection, Lost
from rota.core.errors import RotaError, Unreachable

SHUTDOWN_SECONDS = 300.0  # the longest drain and stop periods in common use, one after the other

Serve = Callable[[list[str]], int]
Processes = Mapping[str, int]
"""Those that run on this machine, by the word of their command that names them."""


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
    here = _processes_here(connection)
    connection.post("/api/v1/shutdown", {"keep_apps": keep_apps})
    output.tell("stopping")
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while _answers(connection) or _runs("serve", here):
        if time.monotonic() > deadline:
            raise RotaError(
                f"the server has not stopped after {SHUTDOWN_SECONDS:.0f} s; its log says what it waits for"
            )
        time.sleep(0.1)
    output.answer("the server has stopped; the apps go on" if keep_apps else _what_has_stopped(here))


def _what_has_stopped(here: Processes) -> str:
    """The keeper ends last. Raises RotaError where it is left: a signal ended the server first."""
    if "keeper" not in here:
        return "the server has stopped; whether its apps have cannot be seen from here"
    if _runs("keeper", here):
        raise RotaError(
            "the server has ended before all its apps had stopped: HAProxy and the replicas that are left go on; "
            "rota serve takes them over and starts the others again"
        )
    return "the server and its apps have stopped"


def _processes_here(connection: Connection) -> Processes:
    """Of those of this machine, the server's and its keeper's: a server ends some time after it answered last."""
    about = connection.get("/api/v1/server")
    named = {"serve": about.get("pid"), "keeper": about.get("keeper", {}).get("pid")}
    here = {name: int(pid) for name, pid in named.items() if pid is not None and connection.address.is_loopback}
    return {name: pid for name, pid in here.items() if _runs(name, here)}


def _runs(name: str, here: Processes) -> bool:
    """A port may lead into a container, where the number is another process's: so its command is looked at, which is
    empty for one that has ended and was not reaped."""
    try:
        return name.encode() in Path(f"/proc/{here[name]}/cmdline").read_bytes().split(b"\0")
    except (KeyError, FileNotFoundError, ProcessLookupError):
        return False


def _answers(connection: Connection) -> bool:
    try:
        connection.get("/healthz")
    except Lost:
        return True
    except Unreachable:
        return False
    return True
