"""The directory that HAProxy is started from: what is left in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rota.adapters.balancer.haproxy import Settings
from rota.adapters.balancer.haproxy.disk import Disk
from rota.adapters.balancer.haproxy.state import State
from rota.core.errors import StepFailed
from rota.core.spec import MAX_DRAIN


async def test_a_trial_file_does_not_stay_behind(tmp_path: Path) -> None:
    await Disk(Settings(tmp_path), "true").check(State())
    with pytest.raises(StepFailed, match="HAProxy does not accept its new file"):
        await Disk(Settings(tmp_path), "false").check(State())
    assert not list(tmp_path.glob("*.trial"))


def test_an_old_process_outlives_the_longest_drain(tmp_path: Path) -> None:
    assert Settings(tmp_path).hard_stop > 2 * MAX_DRAIN


def test_the_key_of_the_cookies_is_made_once_and_is_its_owners(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        Disk(Settings(tmp_path), "true").read()
        keys.append((tmp_path / "cookie.key").read_text())
    assert keys[0] == keys[1]
    assert len(keys[0]) == 32
    (tmp_path / "cookie.key").write_text("not\na key")
    Disk(Settings(tmp_path), "true").read()
    assert len((tmp_path / "cookie.key").read_text()) == 32
    assert (tmp_path / "cookie.key").stat().st_mode & 0o777 == 0o600
