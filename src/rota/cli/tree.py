"""All commands as one tree, built with Typer; run by cli.application."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer
from typer._click.exceptions import ClickException

import rota
from rota.cli import output
from rota.cli.commands import (
    changing,
    deploying,
    dns,
    doctor,
    errand,
    history,
    maintenance,
    planning,
    reading,
    rollouts,
    service,
)
from rota.cli.outcome import FAILED


def run(argv: Sequence[str], serve: Callable[[list[str]], int], examine: doctor.Examine) -> int:
    """One command's exit code; its wrong use is told here, every other error is raised."""
    try:
        code = _commands(serve, examine)(list(argv), prog_name="rota", standalone_mode=False)
    except typer.Abort:
        return FAILED
    except ClickException as error:
        error.message = error.message.replace("Value error, ", "")  # pydantic's, of no use to a person
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0


def _commands(serve: Callable[[list[str]], int], examine: doctor.Examine) -> typer.Typer:
    commands = typer.Typer(
        name="rota",
        help="Several replicas of an app behind a load balancer, changed one at a time.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands.callback()(_options)
    for group in (deploying, planning, changing, reading, history, errand, rollouts, maintenance, dns):
        group.add_to(commands)
    doctor.add_to(commands, examine)
    service.add_to(commands, serve)
    return commands


def _options(version: bool = typer.Option(False, "-V", "--version", help="Print the version.")) -> None:
    """Several replicas of an app behind a load balancer, changed one at a time."""
    if version:
        output.answer(f"rota {rota.__version__}")
        raise typer.Exit
