"""The uploaded archives in the data directory, one file a digest; fulfils the Sources port for the API and runtimes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from rota.adapters.durable import sync_directory
from rota.adapters.unpack import written_disk_error
from rota.core.errors import NotFound, Problem, SpecError, StepFailed

MAX_ARCHIVE = 256 * 2**20  # design.md, "File"
EXPECTED = 3600.0  # seconds in which an order is to follow its upload
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
        if _DIGEST.fullmatch(digest) is None or not (self._directory / digest).is_file():
            return False
        with suppress(OSError):
            os.utime(self._directory / digest)
        return True

    def path(self, digest: str) -> Path:
        """The archive's file. Raises NotFound."""
        if not self.has(digest):
            raise NotFound(f"no uploaded source {digest[:12]}; deploy again to upload it")
        return self._directory / digest

    async def keep_only(self, digests: frozenset[str]) -> None:
        try:
            await asyncio.to_thread(self._keep_only, digests)
        except OSError as error:
            raise StepFailed(f"{self._directory} cannot be tidied: {error.strerror}") from error

    def _keep_only(self, digests: frozenset[str]) -> None:
        for file in self._directory.iterdir():
            unnamed = _DIGEST.fullmatch(file.name) is not None and file.name not in digests
            if unnamed and time.time() - file.stat().st_mtime > EXPECTED:
                file.unlink(missing_ok=True)

    async def _put(self, chunks: AsyncIterator[bytes]) -> str:
        upload = _Upload(self._directory)
        try:
            async for chunk in chunks:
                # Beside the loop: a disk that is behind holds up whoever writes, and nobody else is to wait for it.
                if await asyncio.to_thread(upload.add, chunk) > self._max_size:
                    limit = f"{self._max_size / 2**20:g} MiB"
                    raise SpecError([Problem(f"the archive is larger than {limit}", file="archive")])
            return await asyncio.to_thread(upload.keep)
        finally:
            upload.drop()


class _Upload:
    """An archive on its way in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        descriptor, name = tempfile.mkstemp(prefix=".upload-", dir=directory)
        self._file = open(descriptor, "wb")  # noqa: SIM115 - closed by drop
        self._path = Path(name)
        self._digest = hashlib.sha256()
        self._size = 0

    def add(self, chunk: bytes) -> int:
        """Returns the size so far, in bytes."""
        self._digest.update(chunk)
        self._file.write(chunk)
        self._size += len(chunk)
        return self._size

    def keep(self) -> str:
        """Durable when it returns, under the digest that it returns."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.replace(self._directory / self._digest.hexdigest())
        sync_directory(self._directory)
        return self._digest.hexdigest()

    def drop(self) -> None:
        """Leaves nothing of an upload that was not kept."""
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)
