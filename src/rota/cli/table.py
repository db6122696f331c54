"""Plain tables on stdout: columns as wide as their content, one space more between them; printed by the reading
commands, alike on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lines without trailing spaces; an empty cell is a dash, so that ``awk`` finds every column."""
    cells = [tuple(head), *(tuple(_cell(value) for value in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return text or "-"
