"""Reads a tar archive, plain or gzip, from front to back and trusts nothing in it; used by adapters.unpack alone.

The formats are POSIX pax and ustar and GNU's long names (POSIX.1-2017, pax; tar(5)). Python's own tarfile is not
used: it reads extension headers of any size into memory, follows chains of them without bound and raises whatever
its parsing stumbles over."""

from __future__ import annotations

import enum
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rota.core.errors import StepFailed

_BLOCK = 512
_PIECE = 256 * 1024
_MAX_EXTENSION = 64 * 1024
_MAX_EXTENSIONS_IN_A_ROW = 4


class ArchiveError(StepFailed):
    """The archive is damaged, or holds something that rota does not unpack."""


class Kind(enum.Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"


@dataclass(frozen=True)
class Member:
    """One entry; ``target`` is a link's, as written. ``size`` is 0 for all but files."""

    name: str
    kind: Kind
    size: int = 0
    executable: bool = False
    target: str = ""


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"5": Kind.DIRECTORY,
    b"2": Kind.SYMLINK,
    b"1": Kind.HARDLINK,
}
_REFUSED = {b"3": "a character device", b"4": "a block device", b"6": "a FIFO", b"S": "a sparse file"}


class TarStream:
    """The members in their order; a member's content is read, or left, before the next one is asked for."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self._unread = 0
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """Raises ArchiveError at the first thing that is not as it should be."""
        while (header := self._next_header()) is not None:
            name, target, size, pax_in_a_row = b"", b"", None, 0
            while header is not None and header.type in b"xgLK":
                pax_in_a_row += 1
                if pax_in_a_row > _MAX_EXTENSIONS_IN_A_ROW:
                    raise ArchiveError("the archive has too many extension headers in a row")
                content = self._extension(header)
                if header.type == b"L":
                    name = content.rstrip(b"\0")
                elif header.type == b"K":
                    target = content.rstrip(b"\0")
                elif header.type == b"x":
                    records = _pax_records(content)
                    name = records.get(b"path", name)
                    target = records.get(b"linkpath", target)
                    size = _decimal(records[b"size"]) if b"size" in records else size
                header = self._next_header()
            if header is None:
                raise ArchiveError("the archive ends after an extension header")
            yield self._member(header, name, target, size)

    def content(self) -> Iterator[bytes]:
        """The content of the member that was given last, in pieces."""
        while self._unread:
            piece = self._read(min(self._unread, _PIECE))
            self._unread -= len(piece)
            yield piece

    def _member(self, header: _Header, name: bytes, target: bytes, size: int | None) -> Member:
        shown = _text(name or header.name)
        if header.type in _REFUSED:
            raise ArchiveError(f"{shown!r} is {_REFUSED[header.type]}: only files, directories and links are unpacked")
        kind = _KINDS.get(header.type)
        if kind is None:
            raise ArchiveError(f"{shown!r} has the unknown type {header.type!r}")
        if kind is Kind.FILE and shown.endswith("/"):
            kind = Kind.DIRECTORY  # how tar before POSIX wrote one
        size = header.size if size is None else size
        self._expect(size if kind is Kind.FILE else 0)
        return Member(shown, kind, self._unread, bool(header.mode & 0o111), _text(target or header.target))

    def _extension(self, header: _Header) -> bytes:
        if header.size > _MAX_EXTENSION:
            raise ArchiveError(f"the archive has an extension header of {header.size} bytes")
        self._expect(header.size)
        return b"".join(self.content())

    def _expect(self, size: int) -> None:
        self._unread = size
        self._padding = -size % _BLOCK

    def _next_header(self) -> _Header | None:
        for _ in self.content():
            pass  # what nobody asked for
        self._read(self._padding)
        self._padding = 0
        block = self._read(_BLOCK, end_allowed=True)
        if not block or block == bytes(_BLOCK):
            return None
        return _Header(block)

    def _read(self, size: int, *, end_allowed: bool = False) -> bytes:
        with _readable():
            piece = self._file.read(size)
        if len(piece) != size and not (end_allowed and not piece):
            raise ArchiveError("the archive is cut short")
        return piece


class _Header:
    """One header block (ustar, POSIX.1-2017)."""

    def __init__(self, block: bytes) -> None:
        if _octal(block[148:156]) != sum(block[:148]) + 8 * 0x20 + sum(block[156:]):
            raise ArchiveError("this is no tar archive, or it is damaged (header checksum)")
        self.type = block[156:157]
        self.mode = _octal(block[100:108])
        self.size = _number(block[124:136])
        self.target = block[157:257].split(b"\0")[0]
        self.name = block[:100].split(b"\0")[0]
        # GNU's own format has other things where ustar has the prefix.
        if block[257:263] == b"ustar\0" and (prefix := block[345:500].split(b"\0")[0]):
            self.name = prefix + b"/" + self.name


@contextmanager
def opened(path: Path) -> Iterator[TarStream]:
    """The archive at ``path``, gzip or plain by its first bytes. Raises OSError."""
    with open(path, "rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        if not compressed:
            yield TarStream(file)
            return
        with gzip.GzipFile(fileobj=file) as plain:
            yield TarStream(plain)


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ArchiveError(f"the archive's compression is damaged: {error}") from None


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """``length key=value\\n``, the length counting all of it."""
    records = {}
    while content:
        length_text, blank, _ = content.partition(b" ")
        length = _decimal(length_text) if blank else 0
        record = content[len(length_text) + 1 : length]
        if not 0 < length <= len(content) or not record.endswith(b"\n") or b"=" not in record:
            raise ArchiveError("the archive has a damaged extension header")
        key, _, value = record[:-1].partition(b"=")
        records[key] = value
        content = content[length:]
    return records


def _decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19:
        raise ArchiveError("the archive has a number that is none")
    return int(text)


def _octal(field: bytes) -> int:
    text = field.strip(b" \0")
    if not text:
        return 0
    if text.strip(b"01234567"):
        raise ArchiveError("this is no tar archive, or it is damaged (a number that is none)")
    return int(text, 8)


def _number(field: bytes) -> int:
    """Octal, or GNU's base 256 where the first bit is set."""
    if not field[0] & 0x80:
        return _octal(field)
    if field[0] & 0x40:
        raise ArchiveError("the archive has a negative size")
    return int.from_bytes(bytes([field[0] & 0x3F]) + field[1:], "big")


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise ArchiveError(f"a name in the archive is not UTF-8: {name[:80]!r}") from None
