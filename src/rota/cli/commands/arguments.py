"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

App = Annotated[str, typer.Argument(metavar="APP", help="The app's name.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
File = Annotated[Path, typer.Option("-f", "--file", help="The file that describes the app.")]


def example(*lines: str) -> str:
    """The end of a command's help."""
    return "Example: " + "   ".join(lines)
