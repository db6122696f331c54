"""Limits and statistics under control groups of version 2 alone: the runtimes' own tests on a kernel that has them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rota.testing.uml import run

HERE = Path(__file__).parents[2]
PROCESSES = ["tests/adapters/process", "tests/adapters/test_usage.py", "tests/contract/test_runtime.py"]
CONTAINERS = ["tests/contract/test_runtime.py", "tests/adapters/docker/test_docker_runtime.py"]


@pytest.mark.full
@pytest.mark.timeout(1000)
@pytest.mark.feature("V8", "V1")
@pytest.mark.parametrize(
    ("tests", "chosen"),
    [
        pytest.param(PROCESSES, "not docker and not fake", id="processes"),
        pytest.param(
            CONTAINERS,
            "docker and (limit or measured or large or signal or kill or memory or shut_in)",
            id="containers",
        ),
    ],
)
def test_the_runtime_s_own_tests_on_version_2(component: Callable[[str], Path], tests: list[str], chosen: str) -> None:
    kernel = component("user-mode-linux")
    component("root")
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *tests, "-k", chosen]
    code, said = run(kernel, command, HERE, timeout=900)
    assert code == 0, said[-8000:]
    (controllers,) = [line for line in said.splitlines() if line.startswith("controllers:")]
    assert {"cpu", "memory", "pids"} <= set(controllers.split())
    assert " passed" in said
    assert " skipped" not in said
