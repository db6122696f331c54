"""Which images run on which engine."""

from __future__ import annotations

import pytest

from rota.adapters.runtime.docker.platforms import of_engine, of_image, runs


@pytest.mark.parametrize(
    ("machine", "architecture", "yes"),
    [
        ("x86_64", "amd64", True),
        ("x86_64", "386", True),
        ("x86_64", "arm64", False),
        ("i686", "386", True),
        ("i386", "386", True),
        ("i686", "amd64", False),
        ("aarch64", "arm64", True),
        ("aarch64", "arm", False),
        ("armv7l", "arm", True),
        ("armv6l", "arm", True),
        ("armv7l", "arm64", False),
        ("s390x", "s390x", True),
        ("riscv64", "riscv64", True),
        ("ppc64le", "amd64", False),
        ("", "amd64", True),
        ("x86_64", "", True),
    ],
)
def test_an_engine_runs_what_is_for_its_machine(machine: str, architecture: str, yes: bool) -> None:
    engine = of_engine({"OSType": "linux", "Architecture": machine})
    assert runs(engine, of_image({"Os": "linux", "Architecture": architecture})) is yes


def test_another_operating_system_is_another_platform() -> None:
    engine = of_engine({"OSType": "linux", "Architecture": "x86_64"})
    assert not runs(engine, of_image({"Os": "windows", "Architecture": "amd64"}))
