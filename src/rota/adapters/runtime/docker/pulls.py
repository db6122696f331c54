"""How far the pull of an image is, of the lines that an engine tells; read by the docker runtime's images; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MIB = 2**20
_COMPLETE = ("Download complete", "Pull complete", "Already exists")


class Pull:
    """Of one image, by its layers: the engine names the size of each when its download begins, so that the whole may
    grow."""

    def __init__(self, reference: str) -> None:
        self._reference = reference
        self._layers: dict[str, tuple[int, int]] = {}

    def add(self, line: Mapping[str, Any]) -> None:
        """A line of the engine's answer."""
        layer, status, detail = str(line.get("id") or ""), line.get("status"), line.get("progressDetail") or {}
        if status == "Downloading" and detail.get("total"):
            self._layers[layer] = int(detail.get("current") or 0), int(detail["total"])
        elif status in _COMPLETE and layer in self._layers:
            total = self._layers[layer][1]
            self._layers[layer] = total, total

    @property
    def said(self) -> str:
        total = sum(size for _, size in self._layers.values())
        if not total:
            return f"pulling {self._reference}"
        there = sum(current for current, _ in self._layers.values())
        return f"pulling {self._reference}: {there / _MIB:.1f} of {total / _MIB:.1f} MiB"
