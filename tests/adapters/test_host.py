"""What is found about the host: each part by itself, over what the machine really has."""

from __future__ import annotations

import datetime
import resource
from pathlib import Path

import pytest

from rota import doctor
from rota.adapters import host
from rota.core.diagnosis import Finding, Level
from rota.core.errors import Missing

TODAY = datetime.date(2026, 11, 22)


def found(parts: tuple[Finding, ...]) -> dict[str, Finding]:
    return {part.about: part for part in parts}


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [
        (
            "HAProxy version 2.8.9 2026/01/05 - x\nStatus: … fixes around Q2 2028.",
            Level.OK,
            "2.8.9, released 2026-01-05",
        ),
        ("HAProxy version 2.8.9 2026/01/05 - x\nStatus: … until Q3 2026.", Level.WARNING, "no fixes since Q3 2026"),
        ("HAProxy version 2.8.9 2026/01/05 - x\nStatus: … until Q4 2026.", Level.OK, "2.8.9"),
        ("HAProxy version 2.6.1 2022/01/05 - x", Level.WARNING, "more than two years ago"),
        ("something else", Level.WARNING, "cannot be read"),
    ],
)
def test_haproxy_is_named_with_its_age(said: str, level: Level, words: str) -> None:
    finding = host.haproxy_finding("/usr/sbin/haproxy", said, TODAY)
    assert finding.level is level
    assert words in finding.said


def test_this_machine_is_looked_over(tmp_path: Path) -> None:
    parts = found(doctor.examine(tmp_path / "not" / "there", contains=False))
    assert {"haproxy", "ports", "disk", "open files", "cgroups", "clock", "docker"} <= set(parts)
    assert "released" in parts["haproxy"].said
    assert str(tmp_path) in parts["disk"].said
    assert parts["cgroups"].level is Level.WARNING
    assert found(doctor.examine(tmp_path, contains=True))["cgroups"].level is Level.OK
    assert not (tmp_path / "not").exists()


def test_containers_are_isolated_wherever_their_engine_is(tmp_path: Path) -> None:
    assert "users" in found(doctor.examine(tmp_path, contains=True))
    assert "users" not in found(doctor.examine(tmp_path, contains=True, containers=True))


def test_a_haproxy_that_is_not_there_is_a_problem(tmp_path: Path) -> None:
    def none() -> str:
        raise Missing("HAProxy is missing: install it")

    assert found(host.examine(tmp_path, range(1, 2), none, True))["haproxy"] == Finding(
        Level.PROBLEM, "haproxy", "HAProxy is missing: install it"
    )
    broken = found(host.examine(tmp_path, range(1, 2), lambda: "/nowhere/haproxy", True))["haproxy"]
    assert broken.said.startswith("/nowhere/haproxy does not run")


def test_ports_that_the_kernel_gives_away_are_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tmp_path / "range"
    given.write_text("32768\t60999\n")
    monkeypatch.setattr(host, "LOCAL_PORTS", given)
    assert host._ports(range(20000, 30000)).level is Level.OK
    assert host._ports(range(60999, 61100)).level is Level.WARNING
    assert "32768 to 60999" in host._ports(range(30000, 33000)).said


def test_few_open_files_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 1024))
    assert host._open_files().level is Level.WARNING
    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, resource.RLIM_INFINITY))
    assert host._open_files() == Finding(Level.OK, "open files", "no limit")


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.shutil, "disk_usage", lambda place: type("Usage", (), {"free": 10, "total": 2**40}))
    assert host._disk(tmp_path).level is Level.PROBLEM


def test_a_clock_that_is_not_kept_right_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_synchronised", lambda: False)
    assert host._clock().level is Level.WARNING
    monkeypatch.setattr(host, "_synchronised", lambda: True)
    assert host._clock().level is Level.OK
