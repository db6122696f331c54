"""The command that runs another one in a replica: exec."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from rota.cli import output
from rota.cli.commands.arguments import App, AsJson, example
from rota.cli.connection import Connection, quoted
from rota.cli.outcome import TIMED_OUT
from rota.core.errors import UsageError

_ANSWER_TIME = 30.0  # seconds beyond the command's own

Words = Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command; no shell takes part.")]


def add_to(commands: typer.Typer) -> None:
    settings = {"ignore_unknown_options": True}  # they are the command's own, as all that follows -- is
    commands.command(
        "exec",
        context_settings=settings,
        epilog=example("rota exec hello -- env", "rota exec hello --replica hello-2 -- sh -c 'ls $ROTA_DATA'"),
    )(run)


def run(
    app: App,
    command: Words,
    replica: Annotated[str | None, typer.Option("--replica", help="In this one; else in one that serves.")] = None,
    timeout: Annotated[str, typer.Option("--timeout", help="After this it is killed.")] = "60s",
    json: AsJson = False,
) -> int:
    """Run a command in a replica; its output and its exit code are passed on."""
    errand = {"command": command, "replica": replica, "timeout": _checked(timeout)}
    path = f"/api/v1/apps/{quoted(app)}/exec"
    view = Connection().post(path, errand, timeout=_checked(timeout) + _ANSWER_TIME)
    if json:
        output.answer_json(view)
    else:
        sys.stdout.write(view["output"])
    if view["cut"]:
        output.tell("its output was longer: this is the end of it")
    if view["timed_out"]:
        output.tell(f"the command did not end within {timeout} in {view['replica']} and was killed")
        return TIMED_OUT
    return int(view["exit_code"])


def _checked(timeout: str) -> float:
    """Raises UsageError."""
    from rota.core.errand import Errand  # with pydantic, which the other commands need not load

    try:
        return Errand(command=("x",), timeout=timeout).timeout  # type: ignore[arg-type]
    except ValueError:
        raise UsageError(f"--timeout: 0.1 s to 1 h is allowed, written as 30s or 10m, not {timeout!r}") from None
