"""Which runs ended with the machine, by what the first look of a boot finds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rota.adapters.runtime.docker.inspection import Inspection
from rota.adapters.runtime.docker.lastboot import LastBoot


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """As the last daemon of another boot has left it."""
    kept = tmp_path / "boot.json"
    LastBoot(kept, "before").looked()
    return kept


def container(code: int | None, name: str = "web") -> Inspection:
    """None: it runs."""
    state: dict[str, Any] = {"Running": code is None, "ExitCode": code or 0, "StartedAt": "2026-01-01T00:00:00Z"}
    return Inspection({"Id": f"{name:0<12}", "State": state})


def test_what_is_found_with_no_known_end_ended_with_the_machine(path: Path) -> None:
    now = LastBoot(path, "now")
    assert [now.has_ended(container(code, str(code))) for code in (255, 3, 137, None)] == [True, False, False, False]


def test_what_ends_so_after_the_first_look_chose_that_code(path: Path) -> None:
    now = LastBoot(path, "now")
    assert now.has_ended(container(255, "old"))
    now.looked()
    assert now.has_ended(container(255, "old"))
    assert not now.has_ended(container(255, "new"))


def test_the_next_daemon_of_the_boot_knows(path: Path) -> None:
    first = LastBoot(path, "now")
    assert first.has_ended(container(255, "old"))
    first.looked()
    second = LastBoot(path, "now")
    assert second.has_ended(container(255, "old"))
    assert not second.has_ended(container(255, "new"))


def test_a_daemon_that_was_killed_before_it_had_looked_changes_nothing(path: Path) -> None:
    assert LastBoot(path, "now").has_ended(container(255, "old"))
    assert LastBoot(path, "now").has_ended(container(255, "old"))


@pytest.mark.parametrize("text", [None, "", "[]", json.dumps({"boot_id": "now"})])
def test_without_a_record_every_end_is_the_program_s_own(tmp_path: Path, text: str | None) -> None:
    kept = tmp_path / "boot.json"
    if text is not None:
        kept.write_text(text)
    assert not LastBoot(kept, "now").has_ended(container(255))


def test_a_record_that_cannot_be_written_is_named_and_keeps_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = LastBoot(tmp_path / "missing" / "boot.json", "now")
    now.looked()
    assert "boot.json cannot be written" in caplog.text
