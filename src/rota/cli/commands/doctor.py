"""The command that looks for what is wrong: doctor, with the server's help or, without one, at the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rota.cli import output
from rota.cli.commands.arguments import AsJson, example
from rota.cli.connection import Connection, quoted
from rota.cli.outcome import FAILED
from rota.cli.server import data_directory
from rota.cli.table import table
from rota.core.errors import Unreachable

if TYPE_CHECKING:
    from rota.core.diagnosis import Finding

Examine = Callable[[Path], "Sequence[Finding]"]
"""Looks at this host."""

MaybeApp = Annotated[
    str | None, typer.Argument(metavar="[APP]", help="Only this app; else all, and the host.", show_default=False)
]


def add_to(commands: typer.Typer, examine: Examine) -> None:
    @commands.command("doctor", epilog=example("rota doctor", "rota doctor hello"))
    def doctor(app: MaybeApp = None, json: AsJson = False) -> None:
        """Look for what is wrong: with an app, its replicas and the load; with the host. Exit 1: there are problems."""
        findings = _findings(app, examine)
        if json:
            output.answer_json({"findings": findings})
        else:
            output.answer(table(("LEVEL", "ABOUT", "FINDING"), [_row(finding) for finding in findings]))
        if any(finding["level"] == "problem" for finding in findings):
            raise typer.Exit(FAILED)


def _findings(app: str | None, examine: Examine) -> list[dict[str, Any]]:
    try:
        path = f"/api/v1/doctor?app={quoted(app)}" if app else "/api/v1/doctor"
        found: list[dict[str, Any]] = Connection().get(path)["findings"]
    except Unreachable as error:
        if app is not None:
            raise
        output.tell(f"{error}\nthis is what the host alone says:")
        found = [{"level": one.level.value, "about": one.about, "said": one.said} for one in examine(data_directory())]
    return found


def _row(finding: dict[str, Any]) -> tuple[str, str, str]:
    return finding["level"], finding["about"], finding["said"]
