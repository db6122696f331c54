"""Each app's newest lines of the access log, kept beyond the files that all apps share: else a busy app's lines would
push a quiet one's out; used by access.py.

HAProxy writes to the shared files alone, and the keeper rotates them, whoever else is there. Of a file that was rotated
each app's last lines are copied once: that costs nothing at a request, and a moment of a thread every 10 MiB. A daemon
that was away looks at both rotated files when it is back; only what three rotations took meanwhile is gone."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rota.adapters.written import finished_tail, shown

LOG = "haproxy.log"
ROTATED = (f"{LOG}.1", f"{LOG}.2")
ALL = 2**31
HOLE = "\0"  # before the first line after a rotation (keeper.log)
OF_AN_APP = 256 * 1024
OF_ALL = 64 * 2**20  # then those apps' go first that were last heard of
_EVERY = 1.0  # seconds; the keeper rotates every 2 s at most
_APP = re.compile(rb'\{"app":"([a-z0-9-]{1,40})",')


class NewestLines:
    """``directory`` is HAProxy's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._kept = directory / "newest"
        self._copied: set[tuple[int, int]] = set()

    async def run(self) -> None:
        while True:
            await asyncio.to_thread(self.copy)
            await asyncio.sleep(_EVERY)

    def of(self, app: str) -> Sequence[str]:
        """Oldest first; those of the rotated files may be among them."""
        return finished_tail(self._kept / f"{app}.log", ALL)[0]

    def copy(self) -> None:
        """Copies what has been rotated since; the next time what the disk refuses now."""
        files = {_identity(self._directory / name): name for name in reversed(ROTATED)}
        for identity, name in files.items():
            if identity is not None and identity not in self._copied and self._copy_of(name):
                self._copied.add(identity)
        self._copied &= {identity for identity in files if identity is not None}

    def _copy_of(self, name: str) -> bool:
        try:
            for app, newest in _by_app(self._directory / name).items():
                self._append(app, [shown(line[:-1]) for line in newest.lines])
            self._prune()
        except OSError:
            return False
        return True

    def _append(self, app: str, lines: Sequence[str]) -> None:
        """Of what is there already, from before a crash, nothing is there twice."""
        kept = _Newest()
        for line in dict.fromkeys([*self.of(app), *lines]):
            kept.add(f"{line}\n".encode())
        self._kept.mkdir(mode=0o700, exist_ok=True)
        temporary = self._kept / f"{app}.new"
        temporary.touch(0o600)
        temporary.write_bytes(b"".join(kept.lines))
        temporary.rename(self._kept / f"{app}.log")

    def _prune(self) -> None:
        files = [(path.stat().st_mtime_ns, path.stat().st_size, path) for path in self._kept.glob("*.log")]
        taken = 0
        for _, size, path in sorted(files, reverse=True):
            taken += size
            if taken > OF_ALL:
                path.unlink()


@dataclass
class _Newest:
    """The last lines that came, as many as an app may have; each with its end."""

    lines: deque[bytes] = field(default_factory=deque)
    size: int = 0

    def add(self, line: bytes) -> None:
        self.lines.append(line)
        self.size += len(line)
        while self.size > OF_AN_APP:
            self.size -= len(self.lines.popleft())


def _by_app(path: Path) -> Mapping[str, _Newest]:
    """Read line by line: of a busy app's thousands only those that stay are ever in memory. Raises OSError."""
    found: dict[str, _Newest] = defaultdict(_Newest)
    with path.open("rb") as file:
        for text in file:
            line = text.lstrip(HOLE.encode())
            app = _APP.match(line)
            if app is not None and line.endswith(b"\n"):
                found[app[1].decode()].add(line)
    return found


def _identity(path: Path) -> tuple[int, int] | None:
    """The same after it was moved; None when there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns
