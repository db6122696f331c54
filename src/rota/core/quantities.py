"""Quantities as people write them (``30s``, ``512MiB``, ``25%``) and as rota reckons with them (seconds, bytes);
used by the spec, the API and the command line."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)(ms|s|m|h|d)?)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?", re.ASCII | re.IGNORECASE)
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


def seconds(value: object) -> float:
    """``"500ms"``, ``"30s"``, ``"10m"``, ``"1h"`` or a bare number of seconds; raises ValueError for the rest."""
    if isinstance(value, bool):
        raise ValueError("a time is expected, such as 30s")
    if isinstance(value, int | float) and value >= 0:
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a time; write it as 500ms, 30s, 10m or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def size(value: object) -> int:
    """``"512MiB"``, ``"1g"`` or a number of bytes; raises ValueError for the rest."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a size; write it as 512MiB, 1GB or a number of bytes")
    return int(float(match[1]) * _FACTOR[(match[2] or "").lower()])


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
