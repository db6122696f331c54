"""Uploaded archives: kept by digest, and unpacked without anything of a hostile one landing outside."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rota.adapters.source import ArchiveDirectory
from rota.adapters.tarstream import ArchiveError
from rota.adapters.unpack import Caps, unpack
from rota.core.errors import NotFound, SpecError, StepFailed

Entry = tuple[str, str, object]


def archive(path: Path, *entries: Entry, form: int = tarfile.PAX_FORMAT, compress: bool = False) -> Path:
    """A tar of (name, type, content or target)."""
    with tarfile.open(path, "w:gz" if compress else "w", format=form) as tar:
        for name, kind, content in entries:
            member = tarfile.TarInfo(name)
            member.type = kind.encode()
            if kind == "0":
                assert isinstance(content, bytes)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
            else:
                member.linkname = str(content)
                tar.addfile(member)
    return path


def tree(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory, name)
            key = str(path.relative_to(root))
            found[key] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


async def pieces(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for offset in range(0, len(content), size):
        yield content[offset : offset + size]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("compress", [False, True])
def test_files_directories_and_inner_links_come_out_as_they_went_in(tmp_path: Path, form: int, compress: bool) -> None:
    long = "/".join(["directory-with-a-long-name"] * 8) if form != tarfile.USTAR_FORMAT else "d/e"
    packed = archive(
        tmp_path / "a.tar",
        (".", "5", ""),
        ("./app", "5", ""),
        ("./app/main.py", "0", b"print(1)\n"),
        (f"{long}/deep.txt", "0", b"x" * 1_000_000),
        ("app/here", "2", "main.py"),
        ("app/up", "2", "../app/main.py"),
        ("app/dangling", "2", "not-there"),
        ("app/hard", "1", "app/main.py"),
        form=form,
        compress=compress,
    )
    unpack(packed, tmp_path / "out")
    found = tree(tmp_path / "out")
    assert found["app/main.py"] == found["app/hard"] == b"print(1)\n"
    assert found[f"{long}/deep.txt"] == b"x" * 1_000_000
    assert (found["app/here"], found["app/up"], found["app/dangling"]) == ("main.py", "../app/main.py", "not-there")


def test_umlauts_and_executable_bits_survive_and_setuid_does_not(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name, mode in (("grüße.txt", 0o4600), ("run", 0o6711)):
            member = tarfile.TarInfo(name)
            member.mode = mode
            tar.addfile(member)
    unpack(tmp_path / "a.tar", tmp_path / "out")
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (tmp_path / "out").iterdir()}
    assert modes == {"grüße.txt": 0o644, "run": 0o755}


HOSTILE: dict[str, list[Entry]] = {
    "an absolute name": [("/etc/evil", "0", b"x")],
    "a name upwards": [("a/../../evil", "0", b"x")],
    "an absolute link": [("l", "2", "/etc")],
    "a link upwards": [("d/l", "2", "../../evil")],
    "a file through a link": [("l", "2", "d"), ("l/evil", "0", b"x")],
    "a link in the place of a directory": [("l/file", "0", b"x"), ("l", "2", "..")],
    "a link in the place of a file": [("l", "0", b"x"), ("l", "2", "d")],
    "a chain of links that leads out": [("a/b", "2", ".."), ("m", "2", "a/b/../evil")],
    "a chain whose first link comes last": [("m", "2", "a/b/../evil"), ("a/b", "2", "..")],
    "a chain of long links": [
        *[(f"{'d' * 200}/" * n + "x", "2", "../" * n + "x2") for n in range(1, 4)],
        ("q", "2", f"{'d' * 200}/x/../.."),
    ],
    "links in a circle": [("a", "2", "b"), ("b", "2", "a")],
    "a hard link out": [("h", "1", "../../etc/passwd")],
    "a hard link to an absolute path": [("h", "1", "/etc/passwd")],
    "a hard link to a link": [("l", "2", "f"), ("h", "1", "l")],
    "a character device": [("null", "3", "")],
    "a block device": [("disk", "4", "")],
    "a FIFO": [("pipe", "6", "")],
    "a name twice": [("f", "0", b"1"), ("f", "0", b"2")],
    "too deep a name": [("d/" * 65 + "f", "0", b"x")],
    "too long a part": [("n" * 256, "0", b"x")],
    "too long a name": [("/".join(["n" * 200] * 6), "0", b"x")],
    "no name": [(".", "0", b"x")],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_lands_outside(tmp_path: Path, case: str) -> None:
    packed = archive(tmp_path / "a.tar", *HOSTILE[case])
    (tmp_path / "yard").mkdir()
    with pytest.raises(ArchiveError):
        unpack(packed, tmp_path / "yard/out")
    assert {path.name for path in (tmp_path / "yard").iterdir()} <= {"out"}
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "yard"}


def test_caps_hold_on_size_entries_and_tangled_links(tmp_path: Path) -> None:
    big = archive(tmp_path / "big.tar", ("zeros", "0", bytes(2**20)), compress=True)
    many = archive(tmp_path / "many.tar", *[(f"f{n}", "0", b"") for n in range(20)])
    tangled = archive(tmp_path / "tangled.tar", *[(f"l{n}", "2", "d/../" * 50 + "x") for n in range(20)])
    for packed, caps, word in (
        (big, Caps(size=2**19), "MiB unpacked"),
        (many, Caps(entries=10), "more than 10 entries"),
        (tangled, Caps(link_steps=500), "tangled"),
    ):
        with pytest.raises(ArchiveError, match=word):
            unpack(packed, tmp_path / f"out-{packed.name}", caps)


def _pax(payload: bytes, claimed: int | None = None) -> bytes:
    header = tarfile.TarInfo("pax")
    header.type = b"x"
    header.size = len(payload) if claimed is None else claimed
    return header.tobuf(tarfile.USTAR_FORMAT) + payload + bytes(-len(payload) % 512)


def _plain(name: str = "f") -> bytes:
    return tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)


DAMAGED: dict[str, Callable[[], bytes]] = {
    "no tar at all": lambda: b"PK\3\4" * 300,
    "a header cut short": lambda: _plain()[:200],
    "a content cut short": lambda: _pax(b"", 400),
    "a giant extension header": lambda: _pax(b"", 2**30) + bytes(2**20),
    "a chain of extension headers": lambda: _pax(b"9 path=f\n") * 5000 + _plain(),
    "an extension record without a length": lambda: _pax(b"path=f\n") + _plain(),
    "an extension record that is too long": lambda: _pax(b"99 path=f\n") + _plain(),
    "an extension record of length 0": lambda: _pax(b"0 path=f\n") + _plain(),
    "a negative size by record": lambda: _pax(b"11 size=-5\n") + _plain(),
    "an extension header at the end": lambda: _pax(b"9 path=f\n") + bytes(1024),
    "a name that is not UTF-8": lambda: _pax(b"9 path=\xff\n") + _plain(),
    "a name with a NUL": lambda: _pax(b"11 path=a\0b\n") + _plain(),
    "a broken compression": lambda: gzip.compress(_plain() * 20)[:-20],
    "a wrong compression": lambda: b"\x1f\x8b" + b"no" * 500,
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_archive_is_refused_in_words(tmp_path: Path, case: str) -> None:
    (tmp_path / "a.tar").write_bytes(DAMAGED[case]())
    with pytest.raises(ArchiveError, match=r"archive|name|NUL"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_a_full_disk_is_told_with_its_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = archive(tmp_path / "a.tar", ("f", "0", b"x"))

    def refuse(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(StepFailed, match=r"no space left .* MiB of \d+ MiB are free"):
        unpack(packed, tmp_path / "out")


async def test_an_archive_is_kept_under_its_digest_and_given_back(tmp_path: Path) -> None:
    sources = ArchiveDirectory(tmp_path / "sources")
    digest = await sources.put(pieces(b"a" * 5000))
    assert digest == hashlib.sha256(b"a" * 5000).hexdigest()
    assert sources.has(digest)
    assert sources.path(digest).read_bytes() == b"a" * 5000
    assert sources.path(digest).stat().st_mode & 0o777 == 0o600
    assert await sources.put(pieces(b"a" * 5000)) == digest


async def test_an_archive_over_the_limit_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    sources = ArchiveDirectory(tmp_path / "sources", max_size=4999)
    with pytest.raises(SpecError, match="larger than"):
        await sources.put(pieces(b"a" * 5000))
    assert list((tmp_path / "sources").iterdir()) == []


async def test_only_the_named_archives_are_kept_and_others_are_not_found(tmp_path: Path) -> None:
    sources = ArchiveDirectory(tmp_path / "sources")
    first, second = await sources.put(pieces(b"1")), await sources.put(pieces(b"2"))
    third = await sources.put(pieces(b"3"))
    for digest in (first, second, third):
        os.utime(tmp_path / "sources" / digest, (0, 0))  # long ago
    assert sources.has(third)  # asked for by somebody whose order follows
    await sources.keep_only(frozenset({second}))
    assert [sources.has(digest) for digest in (first, second, third)] == [False, True, True]
    for unknown in (first, "../../etc/passwd", ""):
        with pytest.raises(NotFound):
            sources.path(unknown)
