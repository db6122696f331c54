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
    assert Settings(tmp_path).hard_stop > MAX_DRAIN
