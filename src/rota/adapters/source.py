"""The uploaded archives in the data directory, one file a digest; fulfils the Sources port for the API and runtimes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from rota.adapters.durable import sync_directory
from rota.adapters.unpack import written_disk_error
from rota.core.errors import NotFound, Problem, SpecError, StepFailed

MAX_ARCHIVE = 256 * 2**20  # design.md, "File"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


class ArchiveDirectory:
    """Keeps archives of at most ``max_size`` bytes in ``directory``; an upload that broke off leaves nothing."""

    def __init__(self, directory: Path, max_size: int = MAX_ARCHIVE) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._max_size = max_size
        for left_over in directory.glob(".upload-*"):
            left_over.unlink(missing_ok=True)

    async def put(self, chunks: AsyncIterator[bytes]) -> str:
        """Keeps an archive and returns its digest. Raises SpecError over the size limit, StepFailed when the disk
        refuses."""
        try:
            return await self._put(chunks)
        except OSError as error:
            raise StepFailed(written_disk_error(error, self._directory)) from error

    def has(self, digest: str) -> bool:
        return _DIGEST.fullmatch(digest) is not None and (self._directory / digest).is_file()

    def path(self, digest: str) -> Path:
        """The archive's file. Raises NotFound."""
        if not self.has(digest):
            raise NotFound(f"no uploaded source {digest[:12]}; deploy again to upload it")
        return self._directory / digest

    async def keep_only(self, digests: frozenset[str]) -> None:
        """Deletes the archives that no release names any more; uploads under way are left alone."""
        for file in self._directory.iterdir():
            if _DIGEST.fullmatch(file.name) and file.name not in digests:
                await asyncio.to_thread(file.unlink, missing_ok=True)

    async def _put(self, chunks: AsyncIterator[bytes]) -> str:
        descriptor, name = tempfile.mkstemp(prefix=".upload-", dir=self._directory)
        try:
            with open(descriptor, "wb") as file:
                digest = await self._receive(chunks, file)
                await asyncio.to_thread(_settle, file)
            Path(name).replace(self._directory / digest)
            await asyncio.to_thread(sync_directory, self._directory)
            return digest
        finally:
            Path(name).unlink(missing_ok=True)

    async def _receive(self, chunks: AsyncIterator[bytes], file: IO[bytes]) -> str:
        sum_so_far, size = hashlib.sha256(), 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self._max_size:
                raise SpecError(
                    [Problem(f"the archive is larger than {self._max_size / 2**20:g} MiB", file="archive")]
                )
            sum_so_far.update(chunk)
            file.write(chunk)
        return sum_so_far.hexdigest()


def _settle(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
