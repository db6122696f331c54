"""What the composition root says before anything runs."""

from __future__ import annotations

import os

import pytest

from rota import daemon
from rota.options import read_options


@pytest.mark.parametrize(
    ("uid", "user", "told"), [(0, None, True), (0, "root", True), (0, "nobody", False), (1000, None, False)]
)
def test_apps_that_run_as_root_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, uid: int, user: str | None, told: bool
) -> None:
    options = read_options(["--process-user", user] if user else [])
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    daemon._name_missing_isolation(options)
    assert ("apps run as root" in caplog.text) is told
    assert ("--process-user" in caplog.text) is told


def test_what_is_in_a_container_is_not_said_to_run_as_root(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    daemon._name_missing_isolation(read_options(["--runtime", "docker"]))
    assert "root" not in caplog.text
