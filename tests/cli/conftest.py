"""The command line as a process of its own, against a scripted engine behind the real API."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.api.scripted_engine import TOKEN, ScriptedEngine, Served, served
from tests.cli.rota_command import RotaCommand


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[Served]:
    with served(engine) as running:
        yield running


@pytest.fixture
def rota(server: Served, tmp_path: Path) -> Iterator[RotaCommand]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "TZ": "UTC", "ROTA_DATA_DIR": str(tmp_path)}
    environment |= {name: value for name, value in os.environ.items() if name == "PYTHONPATH"}
    command = RotaCommand(environment | {"ROTA_SERVER": server.url, "ROTA_TOKEN": TOKEN}, tmp_path)
    yield command
    for started in command.started:
        if started.poll() is None:
            started.kill()
        started.communicate()


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A directory that can be deployed."""
    (tmp_path / "rota.yaml").write_text('name: hello\ncommand: ["python3", "app.py"]\n')
    (tmp_path / "app.py").write_text("print('hello')\n")
    return tmp_path
