"""Quantities as people write them (``30s``, ``512MiB``, ``25%``) and as rota reckons with them (seconds, bytes);
used by the spec, the API and the command line."""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

_DURATION = re.compile(r"(?:(\d{1,12}(?:\.\d{1,9})?)(ms|s|m|h|d)?)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([kmgt]i?)?b?", re.ASCII | re.IGNORECASE)
_FACTOR = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 2**10,
    "mi": 2**20,
    "gi": 2**30,
    "ti": 2**40,
}
MOST_SECONDS = 1e12


def seconds(value: object) -> float:
    """``"500ms"``, ``"30s"``, ``"10m"``, ``"1h"`` or a bare number of seconds; raises ValueError for the rest."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_SECONDS:
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a time is expected, such as 500ms, 30s, 10m or 1h, not {quoted(value)}")
    return float(match[1]) * _SECONDS[match[2]]


def size(value: object) -> int:
    """``"512MiB"``, ``"1g"`` or a number of bytes; raises ValueError for the rest."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"a size is expected, such as 512MiB or 1GB, not {quoted(value)}")
    return int(float(match[1]) * _FACTOR[(match[2] or "").lower()])


def quoted(value: object) -> str:
    """A wrong value as a message shows it: short, on one line, a text in quotes, a list or section by its kind."""
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value if len(value) <= 60 else value[:57] + "...", ensure_ascii=False)
        case int() | float():
            return f"{value:.20g}" if isinstance(value, float) else str(value)
        case dict():
            return "a section of keys"
        case _:
            return "a list"


def between(low: float, high: float, unit: str = "seconds") -> AfterValidator:
    """For a field: both ends are allowed."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"{low:g} to {high:g} {unit} are allowed, not {value:g}")
        return value

    return AfterValidator(check)


def written_seconds(value: float) -> str:
    """Seconds as a person reads them: ``350 ms``, ``4.2 s``, ``3 min 10 s``."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    return f"{int(value) // 60} min {int(value) % 60} s"


Seconds = Annotated[
    float, BeforeValidator(seconds), WithJsonSchema({"type": ["string", "number"], "examples": ["30s", 2]})
]
Size = Annotated[int, BeforeValidator(size), WithJsonSchema({"type": ["string", "integer"], "examples": ["512MiB"]})]
Whole = Annotated[int, Field(strict=True)]
"""A whole number, never a text that looks like one nor true for 1."""
