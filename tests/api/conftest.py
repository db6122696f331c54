"""A served engine for each test of the API."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.api.api_client import Client
from tests.api.scripted_engine import ScriptedEngine, Served, served


@pytest.fixture
def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def server(engine: ScriptedEngine) -> Iterator[Served]:
    with served(engine) as running:
        yield running


@pytest.fixture
def ask(server: Served) -> Client:
    return Client(server.port)
