"""The unit of systemd: what the daemon being crash-only relies on."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "packaging/rota.service"


@pytest.mark.feature("R4")
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("KillMode", "process"),  # keeper, HAProxy and replicas survive a restart of the daemon
        ("Restart", "on-failure"),  # and an end by `rota shutdown` is one
        ("OOMPolicy", "continue"),  # a replica's end for its memory is not the service's
        ("Delegate", "yes"),  # limits without being root
    ],
)
def test_the_daemon_may_end_alone_and_comes_back(key: str, value: str) -> None:
    unit = configparser.ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(UNIT.read_text())
    assert unit["Service"][key] == value
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
