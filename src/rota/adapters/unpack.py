"""Unpacks an uploaded archive so that nothing of it can land, or lead, outside of the directory meant for it; called
by the runtimes, in a thread.

What makes it safe: the directory is new and nobody else's; every name is checked part by part; while files are
written there is no symbolic link in the tree at all (they are made last, and never in the place of something that is
there); each link's way is followed in memory, through the others, before any is made. A name alone tells too little:
with ``a/b -> ..`` the harmless looking ``a/b/../x`` leads out of the tree."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rota.adapters.tarstream import ArchiveError, Kind, Member, TarStream, opened
from rota.core.errors import StepFailed

_MAX_EXPANSIONS = 40  # the kernel's own (path_resolution(7))


@dataclass(frozen=True)
class Caps:
    """How much one archive may become."""

    size: int = 2**30
    entries: int = 100_000
    depth: int = 64
    part: int = 255
    path: int = 1024
    link_steps: int = 2_000_000


def unpack(archive: Path, into: Path, caps: Caps = Caps(), owner: tuple[int, int] | None = None) -> None:
    """Unpacks into a new directory ``into``; ``owner`` (uid, gid) becomes the owner of all of it. Times and owners in
    the archive are ignored, modes become 0644 or 0755. Raises ArchiveError, and StepFailed when the disk is full;
    what was unpacked until then is left for the caller to remove."""
    with _room_on(into.parent), opened(archive) as stream:
        into.mkdir(mode=0o700)
        _Tree(into, caps, owner).fill(stream)


class _Tree:
    def __init__(self, root: Path, caps: Caps, owner: tuple[int, int] | None) -> None:
        self._root = str(root)
        self._caps = caps
        self._owner = owner
        self._size = 0
        self._entries = 0
        self._directories: set[tuple[str, ...]] = {()}
        self._files: set[tuple[str, ...]] = set()
        self._links: dict[tuple[str, ...], str] = {}

    def fill(self, stream: TarStream) -> None:
        for member in stream.members():
            parts = self._checked(member.name)
            self._count(member)
            if parts:
                self._place(member, parts, stream)
            elif member.kind is not Kind.DIRECTORY:
                raise ArchiveError(f"{member.name!r} is no name of a file")
        self._check_links()
        for parts, target in self._links.items():
            self._make_link(parts, target)
        self._own(self._root)

    def _place(self, member: Member, parts: tuple[str, ...], stream: TarStream) -> None:
        if member.kind is Kind.DIRECTORY:
            self._directory(parts)
            return
        self._directory(parts[:-1])
        if parts in self._files or parts in self._links or parts in self._directories:
            raise ArchiveError(f"{member.name!r} is in the archive twice")
        if member.kind is Kind.SYMLINK:
            self._links[parts] = self._checked_target(member)
        elif member.kind is Kind.HARDLINK:
            self._hard_link(parts, member)
        else:
            self._file(parts, member, stream)

    def _checked(self, name: str) -> tuple[str, ...]:
        if name.startswith("/"):
            raise ArchiveError(f"{name!r} is an absolute name")
        if "\0" in name or len(name.encode()) > self._caps.path:
            raise ArchiveError(f"{name[:80]!r}… is too long a name, or holds a NUL")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts:
            raise ArchiveError(f"{name!r} leads upwards")
        if len(parts) > self._caps.depth:
            raise ArchiveError(f"{name[:80]!r}… is nested deeper than {self._caps.depth}")
        if any(len(part.encode()) > self._caps.part for part in parts):
            raise ArchiveError(f"{name[:80]!r}… has a part longer than {self._caps.part} bytes")
        return parts

    def _count(self, member: Member) -> None:
        self._entries += 1
        self._size += member.size
        if self._entries > self._caps.entries:
            raise ArchiveError(f"the archive has more than {self._caps.entries} entries")
        if self._size > self._caps.size:
            raise ArchiveError(f"the archive is more than {self._caps.size / 2**20:g} MiB unpacked")

    def _directory(self, parts: tuple[str, ...]) -> None:
        for depth in range(1, len(parts) + 1):
            part = parts[:depth]
            if part in self._directories:
                continue
            if part in self._files or part in self._links:
                raise ArchiveError(f"{'/'.join(part)!r} is a directory here and something else there")
            os.mkdir(self._path(part), 0o755)
            self._own(self._path(part))
            self._directories.add(part)
            self._entries += 1

    def _file(self, parts: tuple[str, ...], member: Member, stream: TarStream) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(self._path(parts), flags, 0o755 if member.executable else 0o644)
        with open(descriptor, "wb") as file:
            for piece in stream.content():
                file.write(piece)
            if self._owner is not None:
                os.fchown(descriptor, *self._owner)
        self._files.add(parts)

    def _hard_link(self, parts: tuple[str, ...], member: Member) -> None:
        source = self._checked(member.target)
        if source not in self._files:
            raise ArchiveError(f"{member.name!r} is a hard link to {member.target!r}, which is no file before it")
        os.link(self._path(source), self._path(parts), follow_symlinks=False)
        self._files.add(parts)

    def _checked_target(self, member: Member) -> str:
        target = member.target
        if not target or "\0" in target or len(target.encode()) > self._caps.path:
            raise ArchiveError(f"{member.name!r} is a link to nowhere")
        if target.startswith("/"):
            raise ArchiveError(f"{member.name!r} links to the absolute path {target!r}")
        return target

    def _check_links(self) -> None:
        steps = self._caps.link_steps
        for parts, target in self._links.items():
            steps = self._follow(parts, target, steps)

    def _follow(self, parts: tuple[str, ...], target: str, steps: int) -> int:
        """Goes a link's way as the kernel would, in memory; returns what is left of ``steps``."""
        here = list(parts[:-1])
        ahead = target.split("/")[::-1]
        expansions = 0
        while ahead:
            steps -= 1
            if steps < 0:
                raise ArchiveError("the archive's symbolic links are too tangled")
            part = ahead.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if not here:
                    raise ArchiveError(f"{'/'.join(parts)!r} links to {target!r}, which leads out of the directory")
                here.pop()
            elif (further := self._links.get((*here, part))) is not None:
                expansions += 1
                if expansions > _MAX_EXPANSIONS:
                    raise ArchiveError(f"{'/'.join(parts)!r} is a link that goes round in circles")
                ahead.extend(further.split("/")[::-1])
            else:
                here.append(part)
        return steps

    def _make_link(self, parts: tuple[str, ...], target: str) -> None:
        if parts in self._directories or parts in self._files:
            raise ArchiveError(f"{'/'.join(parts)!r} is in the archive twice")
        os.symlink(target, self._path(parts))
        self._own(self._path(parts))

    def _own(self, path: str) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)

    def _path(self, parts: tuple[str, ...]) -> str:
        return os.path.join(self._root, *parts)


@contextmanager
def _room_on(directory: Path) -> Iterator[None]:
    """A full disk as a failure that names the numbers."""
    try:
        yield
    except OSError as error:
        raise StepFailed(written_disk_error(error, directory)) from error


def written_disk_error(error: OSError, directory: Path) -> str:
    """What the system refused, for a person; with how much is free when there was no room."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write below {directory}: {error.strerror}"
    usage = shutil.disk_usage(directory)
    return (
        f"no space left below {directory}: {usage.free / 2**20:.0f} MiB of {usage.total / 2**20:.0f} MiB are free; "
        "make room there, or give another --data-dir"
    )
