"""The command ``rota`` as a whole: its commands, and how their errors reach a person; called by rota.__main__."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

import rota
from rota.cli import output
from rota.cli.commands import changing, deploying, history, reading, rollouts, service
from rota.cli.outcome import DETACHED, FAILED
from rota.core.errors import RotaError

BROKEN_PIPE = 141  # what a shell shows for a program that SIGPIPE has ended


def main(argv: Sequence[str], serve: service.Serve) -> int:
    """Runs one command and returns its exit code; no traceback ever reaches a person."""
    try:
        code = _run(_commands(serve), argv)
        sys.stdout.flush()
        return code
    except RotaError as error:
        output.tell(error.message)
        return error.exit_code
    except KeyboardInterrupt:
        return DETACHED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its exit
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 -- the last resort: a bug becomes one line, its details a file
        return _bug(error)


def _commands(serve: service.Serve) -> typer.Typer:
    commands = typer.Typer(
        name="rota",
        help="Several replicas of an app behind a load balancer, changed one at a time.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    commands.callback()(_options)
    for group in (deploying, changing, reading, history, rollouts):
        group.add_to(commands)
    service.add_to(commands, serve)
    return commands


def _options(version: bool = typer.Option(False, "-V", "--version", help="Print the version.")) -> None:
    """Several replicas of an app behind a load balancer, changed one at a time."""
    if version:
        output.answer(f"rota {rota.__version__}")
        raise typer.Exit


def _run(commands: typer.Typer, argv: Sequence[str]) -> int:
    from typer._click.exceptions import ClickException

    try:
        code = commands(list(argv), prog_name="rota", standalone_mode=False)
    except typer.Abort:
        return FAILED
    except ClickException as error:
        error.show()
        return error.exit_code
    return code if isinstance(code, int) else 0


def _bug(error: Exception) -> int:
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="rota-", suffix=".log", delete=False) as file:
        file.writelines(traceback.format_exception(error))
    output.tell(f"rota failed unexpectedly: {type(error).__name__}: {error}; details in {file.name}")
    return FAILED
