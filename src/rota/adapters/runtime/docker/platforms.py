"""Which images an engine's machine can run, in the words of images; pure; asked by the docker runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv8l": "arm",
    "armv7l": "arm",
    "armv6l": "arm",
    "i386": "386",
    "i486": "386",
    "i586": "386",
    "i686": "386",
    "loongarch64": "loong64",
}
_TOO = {"amd64": ("386",)}  # not every arm64 runs arm: some have no 32 bits

Platform = tuple[str, str]
"""Operating system and architecture, as Go names them; empty where nobody says."""


def of_engine(info: Mapping[str, Any]) -> Platform:
    """An engine names its machine as uname does."""
    machine = str(info.get("Architecture") or "")
    return str(info.get("OSType") or ""), _ARCHITECTURES.get(machine, machine)


def of_image(found: Mapping[str, Any]) -> Platform:
    return str(found.get("Os") or ""), str(found.get("Architecture") or "")


def runs(engine: Platform, image: Platform) -> bool:
    """Also where one of the two does not say what it is."""
    if not (engine[1] and image[1]):
        return True
    return image[0] == engine[0] and image[1] in (engine[1], *_TOO.get(engine[1], ()))
