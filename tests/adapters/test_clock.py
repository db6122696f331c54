"""Rota's own clock: set once a boot, then deaf to the wall clock."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rota.adapters.clock import SystemClock
from rota.testing.clock import FakeClock

SLEWED = 0.5  # seconds by which the wall clock may have been set right since the clock was made


def is_right(clock: SystemClock) -> bool:
    """However long the machine stands still between two looks."""
    before = time.time()
    now = clock.now()
    return before - SLEWED <= now <= time.time() + SLEWED


def test_a_second_clock_of_the_same_boot_goes_on_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SystemClock(tmp_path)
    assert is_right(first)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    second = SystemClock(tmp_path)
    assert first.now() <= second.now() <= first.now()


@pytest.mark.parametrize("kept", ["{", "[]", '{"boot_id": "another", "wall_at_boot": 5}', '{"boot_id": null}'])
def test_another_boot_or_a_broken_file_sets_it_anew(tmp_path: Path, kept: str) -> None:
    (tmp_path / "clock.json").write_text(kept)
    clock = SystemClock(tmp_path)
    assert is_right(clock)
    assert json.loads((tmp_path / "clock.json").read_text())["boot_id"] == clock.boot_id


def test_a_wall_clock_moment_becomes_the_same_moment_at_each_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SystemClock(tmp_path)
    before = clock.now()
    text = datetime.fromtimestamp(time.time() - 5, UTC).isoformat()
    moment = clock.at_wall(text)
    assert before - 5 - SLEWED <= moment <= clock.now() - 5 + SLEWED
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert clock.at_wall(text) == moment
    assert clock.at_wall("2099-01-01T00:00:00Z") <= clock.now()


def test_the_fake_clock_does_what_falls_due_in_order_and_at_its_time() -> None:
    clock, done = FakeClock(start=100.0), []
    for when in (103.0, 101.0, 101.0, 110.0):
        clock.call_at(when, lambda when=when: done.append((when, clock.now())))  # type: ignore[misc]
    clock.call_at(101.0, lambda: clock.call_at(102.0, lambda: done.append((102.0, clock.now()))))
    clock.advance(5.0)
    assert done == [(101.0, 101.0), (101.0, 101.0), (102.0, 102.0), (103.0, 103.0)]
    assert (clock.now(), clock.next_due) == (105.0, 110.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)
