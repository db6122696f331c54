"""What an app has made on the disk goes, whatever it is, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rota.adapters.runtime.process.disk import remove


def test_what_is_a_thousand_directories_deep_goes_too(tmp_path: Path) -> None:
    """shutil.rmtree would break off, and the replica's removal with it, for ever."""
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(tmp_path)
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
            Path("file").touch()
    finally:
        os.chdir(here)
        os.close(here)
    remove(tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_links_are_taken_away_and_not_followed(tmp_path: Path) -> None:
    others = tmp_path / "others"
    (others / "below").mkdir(parents=True)
    (others / "file").write_text("kept")
    mine = tmp_path / "mine"
    (mine / "a/b").mkdir(parents=True)
    for link in (mine / "link", mine / "a/link", mine / "a/b/link"):
        link.symlink_to(others)
    (mine / "a/dangling").symlink_to("nowhere")
    os.mkfifo(mine / "a/b/fifo")
    remove(mine)
    (tmp_path / "itself").symlink_to(others)
    remove(tmp_path / "itself")
    remove(tmp_path / "not-there")
    (tmp_path / "file").touch()
    remove(tmp_path / "file")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["below", "file", "others"]


def test_directories_that_nobody_may_write_to_go_too(tmp_path: Path) -> None:
    deep = tmp_path / "mine/cache/module"
    deep.mkdir(parents=True)
    (deep / "file").touch()
    for directory in (deep, deep.parent):
        directory.chmod(0o555)
    remove(tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


def test_what_cannot_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()

    def busy(path: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rmdir", busy)
    with pytest.raises(OSError, match="busy"):
        remove(tmp_path / "mine")
