"""The room on the disk that everything is kept on; asked by engine.diskwatch."""

from __future__ import annotations

from typing import Protocol


class Disk(Protocol):
    def room(self) -> tuple[int, int]:
        """Bytes that are free for rota, and all there are. Raises StepFailed."""
        ...
