"""Who may look into the data directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.adapters.runtime.process.layout import Account, Layout, make
from rota.core.names import ReplicaId


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def test_every_directory_above_is_the_owners_alone(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "state")
    for directory in (layout.logs("web"), layout.releases("web"), layout.replica_files(ReplicaId("web-1"))):
        make(directory)
        assert (mode(directory), mode(directory.parent)) == ("0o700", "0o700")


def test_what_an_earlier_version_left_open_is_closed_and_an_apps_own_user_still_passes(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    for name in ("data", "logs", "releases"):
        (tmp_path / name).mkdir(mode=0o755)
    (tmp_path / "logs").chmod(0o700)
    layout.open_to(Account("app", os.geteuid(), os.getegid()), tmp_path / "data")
    layout.close_to_others()
    assert [mode(tmp_path / name) for name in ("data", "logs", "releases")] == ["0o711", "0o700", "0o711"]


def test_an_app_that_puts_a_link_in_the_place_of_its_tmp_gets_nothing_else_by_it(tmp_path: Path) -> None:
    """A restart in place makes the directory again, as root, below one that is the app's own by then."""
    own = Account("app", os.geteuid(), os.getegid())
    others = tmp_path / "others"
    others.mkdir()
    make(tmp_path / "files", own)
    (tmp_path / "files/tmp").symlink_to(others)
    with pytest.raises(OSError, match="files/tmp"):
        make(tmp_path / "files/tmp", own)
