"""An image's HEALTHCHECK in the core's words; pure, used by the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rota.core.healthcheck import ImageCheck

_SHELL = ("/bin/sh", "-c")  # the engine's, for an image that names none
_SECOND = 1_000_000_000


def check_of(image: Mapping[str, Any]) -> ImageCheck | None:
    """From the answer of GET /images/{name}/json; None when it has none, or switches off that of its base."""
    config = image.get("Config") or {}
    said = config.get("Healthcheck") or {}
    match said.get("Test") or []:
        case ["CMD", *words] if words:
            command = tuple(map(str, words))
        case ["CMD-SHELL", line]:
            command = (*(config.get("Shell") or _SHELL), str(line))
        case _:
            return None
    return ImageCheck(
        command,
        interval=_seconds(said.get("Interval")),
        timeout=_seconds(said.get("Timeout")),
        retries=int(said["Retries"]) if said.get("Retries") else None,
        start_period=_seconds(said.get("StartPeriod")),
        start_interval=_seconds(said.get("StartInterval")),
    )


def _seconds(nanoseconds: int | None) -> float | None:
    """0 is the engine's way to leave a value out."""
    return nanoseconds / _SECOND if nanoseconds else None
