"""A source directory as one file: the same tree gives the same bytes, and what must not travel stays at home."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.cli import pack as packing
from rota.cli.ignore import Ignore
from rota.cli.pack import Packed, pack
from rota.core.errors import Conflict, RotaError, SpecError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    return directory


@pytest.fixture(autouse=True)
def packed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the packed files go, so that a test can see that none is left behind."""
    directory = tmp_path / "packed"
    directory.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    return directory


def fill(directory: Path, *names: str, content: str = "x") -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def members(packed: Packed) -> list[str]:
    with tarfile.open(packed.path) as tar:
        return tar.getnames()


def problems(directory: Path, limit: int = packing.LIMIT) -> list[str]:
    with pytest.raises(SpecError) as caught:
        pack(directory, limit)
    assert caught.value.exit_code == 3
    return [str(problem) for problem in caught.value.problems]


class TestSameTree:
    def test_two_copies_give_the_same_bytes(self, source: Path, tmp_path: Path) -> None:
        names = ["b.py", "a/c.py", "a-b", "é.txt", "n" * 180 + ".txt", "run.sh"]
        fill(source, *names)
        other = tmp_path / "other"
        other.mkdir(mode=0o700)
        fill(other, *reversed(names))
        for path in (source, other):
            (path / "run.sh").chmod(0o700 if path is source else 0o775)
            (path / "link").symlink_to("a/c.py")
        os.utime(other / "b.py", (1, 1))
        one, two = pack(source), pack(other)
        assert one.path.read_bytes() == two.path.read_bytes()
        assert one.digest == two.digest == hashlib.sha256(one.path.read_bytes()).hexdigest()
        assert (one.files, one.size) == (6, one.path.stat().st_size)

    def test_another_content_or_mode_gives_another_digest(self, source: Path) -> None:
        fill(source, "a")
        first = pack(source).digest
        (source / "a").chmod(0o755)
        second = pack(source).digest
        fill(source, "a", content="y")
        assert len({first, second, pack(source).digest}) == 3

    def test_owner_time_and_mode_are_normal(self, source: Path) -> None:
        fill(source, "a", "d/run")
        (source / "a").chmod(0o4604)
        (source / "d/run").chmod(0o711)
        with tarfile.open(pack(source).path) as tar:
            found = {member.name: (member.mode, member.uid, member.gid, member.mtime, member.uname) for member in tar}
        assert found == {"a": (0o644, 0, 0, 0, ""), "d": (0o755, 0, 0, 0, ""), "d/run": (0o755, 0, 0, 0, "")}

    def test_the_packed_file_is_ours_alone(self, source: Path) -> None:
        assert pack(source).path.stat().st_mode & 0o777 == 0o600

    def test_a_hard_link_is_a_file_of_its_own(self, source: Path) -> None:
        fill(source, "a")
        os.link(source / "a", source / "b")
        with tarfile.open(pack(source).path) as tar:
            assert [member.isreg() for member in tar] == [True, True]


class TestLeftOut:
    def test_what_never_belongs_to_an_app(self, source: Path) -> None:
        fill(source, "app.py", ".git/config", ".venv/bin/python", "web/node_modules/x.js", "__pycache__/a.pyc")
        fill(source, ".env", ".env.local", "sub/.env", "environment")
        assert members(pack(source)) == ["app.py", "environment", "sub", "web"]

    def test_a_line_that_names_it_brings_it_back(self, source: Path) -> None:
        fill(source, "node_modules/a/x.js", ".env.production", ".env.local")
        fill(source, ".dockerignore", content="!node_modules\n!.env.production\n")
        assert members(pack(source)) == [
            ".dockerignore",
            ".env.production",
            "node_modules",
            "node_modules/a",
            "node_modules/a/x.js",
        ]

    def test_a_wide_line_does_not(self, source: Path) -> None:
        fill(source, "node_modules/a/README.md", "docs/a.md", "docs/a.txt")
        fill(source, ".dockerignore", content="docs\n!**/*.md\n")
        assert members(pack(source)) == [".dockerignore", "docs", "docs/a.md"]

    def test_a_servers_data_directory(self, source: Path) -> None:
        fill(source, "app.py", "state/admin.token", "state/deep/file")
        assert members(pack(source)) == ["app.py"]
        fill(source, ".dockerignore", content="!state\n")
        assert "state/deep/file" in members(pack(source))

    def test_a_data_directory_itself_is_no_source(self, source: Path) -> None:
        fill(source, "admin.token")
        assert "this is a server's data directory" in problems(source)[0]

    def test_sockets_and_fifos(self, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        fill(source, "app.py")
        os.mkfifo(source / "fifo")
        monkeypatch.chdir(source)  # a socket's path has 107 bytes at most
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("sock")
            assert members(pack(source)) == ["app.py"]


@pytest.mark.parametrize(
    ("text", "out", "kept"),
    [
        ("# a comment\n\n  \n#*\n", [], ["a", "#"]),
        ("*.log", ["a.log"], ["d/a.log", "a.logs"]),
        ("**/*.log", ["a.log", "d/a.log", "d/e/a.log"], ["a.txt"]),
        ("/build/", ["build", "build/a/b"], ["src/build", "builder"]),
        ("./build", ["build"], ["a"]),
        ("d/*/x", ["d/e/x", "d/e/x/y"], ["d/x", "d/e/f/x"]),
        ("d/**/x", ["d/x", "d/e/f/x"], ["e/x"]),
        ("d/**", ["d/x", "d/e/f"], ["d", "e"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[ab].py\n[^c].md", ["a.py", "d.md"], ["c.py", "c.md"]),
        ("[", ["["], ["a"]),
        ("[z-a]", ["[z-a]"], ["b"]),
        ("a\\*b", ["a*b"], ["acb"]),
        ("*.md\n!README.md", ["a.md"], ["README.md"]),
        ("!README.md\n*.md", ["README.md"], []),
        ("d\n!d/keep", ["d", "d/a"], ["d/keep", "d/keep/x"]),
        ("\ufeffa", ["a"], ["b"]),
        ("  a  \n! b", ["a"], ["b"]),
        ("!.git/config", [".git", ".git/HEAD"], [".git/config"]),
        ("!.env*\n.env.local", [".env.local"], [".env", "d/e"]),
    ],
)
def test_the_lines_of_dockerignore(text: str, out: list[str], kept: list[str]) -> None:
    ignore = Ignore(text)
    assert [path for path in out if not ignore.leaves_out(path)] == []
    assert [path for path in kept if ignore.leaves_out(path)] == []


@pytest.mark.parametrize(
    ("text", "looked_into"),
    [
        ("!d/e/f", True),
        ("!**/x", True),
        ("!d\\x/e", True),
        ("!*/x", True),
        ("!e/x", False),
        ("d/e", False),
        ("!d", False),
    ],
)
def test_only_directories_that_may_keep_something_are_looked_into(text: str, looked_into: bool) -> None:
    assert Ignore(text).may_keep_below("d") is looked_into


class TestRefused:
    def test_too_much_names_the_largest_and_the_way_out(self, source: Path) -> None:
        fill(source, "small.py")
        fill(source, "models/a", "models/b", content="x" * 2_000_000)
        fill(source, "film.mp4", content="x" * 1_500_000)
        (found,) = problems(source, limit=2**20)
        assert found.startswith(
            f"{source}: the source is 5.2 MiB, 1.0 MiB is the most; largest: models (3.8 MiB), film"
        )
        assert ".dockerignore" in found

    def test_exactly_as_much_as_is_allowed(self, source: Path) -> None:
        fill(source, "a", content="x" * 512)
        assert pack(source, limit=1024).files == 1
        assert problems(source, limit=1023)

    @pytest.mark.parametrize("target", ["/etc/passwd", "../x", "d/../../x", "out/x"])
    def test_a_link_that_leads_out(self, source: Path, target: str) -> None:
        (source / "d").mkdir()
        (source / "d/out").symlink_to("../..")
        (source / "link").symlink_to(target if target != "out/x" else "d/out/x")
        found = [line for line in problems(source) if line.startswith(f"{source}/link: ")]
        assert len(found) == 1
        assert "a symbolic link that leads out of the directory" in found[0]

    @pytest.mark.parametrize("target", ["a", "d/../a", "d/up", "nowhere", "."])
    def test_a_link_that_stays_inside(self, source: Path, target: str) -> None:
        fill(source, "a", "d/b")
        (source / "d/up").symlink_to("../a")
        (source / "link").symlink_to(target)
        with tarfile.open(pack(source).path) as tar:
            assert tar.getmember("link").linkname == target

    def test_a_link_to_itself_ends(self, source: Path) -> None:
        (source / "loop").symlink_to("loop")
        assert members(pack(source)) == ["loop"]

    def test_no_directory(self, source: Path) -> None:
        assert problems(source / "none") == [f"{source}/none: there is no such directory"]

    def test_a_dockerignore_that_cannot_be_read(self, source: Path) -> None:
        (source / ".dockerignore").mkdir()
        assert problems(source) == [f"{source}/.dockerignore: cannot be read: Is a directory"]


@pytest.fixture
def open_source() -> Iterator[Path]:
    """A directory that others may look into, seen as somebody who is not root."""
    directory = Path(tempfile.mkdtemp(prefix="rota-pack-", dir="/tmp"))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def test_all_that_cannot_be_read_is_named(open_source: Path) -> None:
    fill(open_source, "a", "b", "secret/c")
    (open_source / "b").chmod(0)
    (open_source / "secret").chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        found = problems(open_source)
    finally:
        if root:
            os.seteuid(0)
        (open_source / "secret").chmod(0o700)
    assert found == [f"{open_source}/{name}: cannot be read: Permission denied" for name in ("b", "secret")]


class TestChanges:
    """Something happens between the look at the tree and the reading of a file."""

    @pytest.mark.parametrize("change", ["grow", "shrink", "vanish", "replace", "fifo"])
    def test_a_change_before_the_reading(
        self, source: Path, packed_files: Path, monkeypatch: pytest.MonkeyPatch, change: str
    ) -> None:
        fill(source, "a", content="old")

        def meanwhile(*_: object) -> None:
            path = source / "a"
            if change in ("vanish", "replace", "fifo"):
                path.unlink()
            if change == "fifo":
                os.mkfifo(path)
            if change in ("grow", "shrink", "replace"):
                path.write_text({"grow": "older", "shrink": "", "replace": "new"}[change])

        monkeypatch.setattr(packing, "_check_size", meanwhile)
        with pytest.raises(Conflict, match="a changed while it was packed"):
            pack(source)
        assert list(packed_files.iterdir()) == []

    @pytest.mark.parametrize("content", ["", "something longer", "two"])
    def test_a_change_during_the_reading(
        self, source: Path, packed_files: Path, monkeypatch: pytest.MonkeyPatch, content: str
    ) -> None:
        fill(source, "a", content="one")
        add = tarfile.TarFile.addfile

        def meanwhile(tar: tarfile.TarFile, header: tarfile.TarInfo, file: object = None) -> None:
            (source / "a").write_text(content)
            os.utime(source / "a", (5, 5))
            add(tar, header, file)  # type: ignore[arg-type]

        monkeypatch.setattr(tarfile.TarFile, "addfile", meanwhile)
        with pytest.raises(Conflict, match="a changed while it was packed"):
            pack(source)
        assert list(packed_files.iterdir()) == []


def test_a_full_disk_is_said(source: Path, packed_files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(source, "a")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile.TarFile, "addfile", full)
    with pytest.raises(RotaError, match=f"cannot be packed into {packed_files}: No space left on device"):
        pack(source)
    assert list(packed_files.iterdir()) == []


def test_the_app_s_own_file_is_no_part_of_its_source(source: Path) -> None:
    fill(source, "app.py", "sub/rota.yaml", content="x")
    fill(source, "rota.yaml", content="one")
    before = pack(source, described_by="rota.yaml")
    fill(source, "rota.yaml", content="two")
    assert pack(source, described_by="rota.yaml").digest == before.digest
    with tarfile.open(before.path) as packed:
        assert packed.getnames() == ["app.py", "sub", "sub/rota.yaml"]
    assert pack(source).digest != before.digest
