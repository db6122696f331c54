"""Uploaded source directories: packed by the client, kept by digest, unpacked by the runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol


class Sources(Protocol):
    async def put(self, chunks: AsyncIterator[bytes]) -> str:
        """Keeps an archive and returns its digest (sha256, hex). Raises SpecError over the size limit."""
        ...

    def has(self, digest: str) -> bool: ...

    def path(self, digest: str) -> Path:
        """The archive's file. Raises NotFound."""
        ...

    async def keep_only(self, digests: frozenset[str]) -> None:
        """Deletes the archives that no release names any more; not those that came, or were asked for, within an hour,
        as the order that names one follows. Raises StepFailed."""
        ...
