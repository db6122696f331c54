"""The engine's face over fakes: what the loops alone do not show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.engine.daemon import World, quick

from rota.adapters.source import ArchiveDirectory
from rota.core import order as o
from rota.core.diagnosis import Finding, Level
from rota.core.errors import SpecError
from rota.engine.engine import Engine
from rota.testing.notifier import FakeNotifier


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    try:
        await made.start()
        yield made
    finally:
        await made.close()


@pytest.fixture
def engine(world: World, tmp_path: Path) -> Engine:
    assert world.supervisor is not None
    return Engine(
        world.supervisor,
        store=world.store,
        sources=ArchiveDirectory(tmp_path),
        runtime=world.runtime,
        balancer=world.balancer,
        logs=world.runtime,
        clock=world.clock,
        notifier=FakeNotifier(),
        about=dict,
        examine=lambda: (Finding(Level.OK, "disk", "plenty"),),
        http="127.0.0.1:8080",
        on_shutdown=lambda keep_apps: None,
    )


async def test_no_name_of_a_removed_app_is_used_again(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    await engine.begin("web", o.Remove())
    await world.until(lambda: world.state is None)
    again = await engine.begin("web", o.Deploy(spec=quick()))
    await world.until_over()
    assert again["id"] == "web.3"
    assert [replica["id"] for replica in engine.replicas("web")["replicas"]] == ["web-3", "web-4"]


async def test_an_address_that_is_none_is_refused_before_anything_begins(world: World, engine: Engine) -> None:
    with pytest.raises(SpecError, match=r"notify: nosuch://… is not an address"):
        await engine.begin("web", o.Deploy(spec=quick(notify=["nosuch://token/in/the/path"])))
    assert world.state is None


async def test_what_is_secret_in_an_address_is_not_shown(world: World, engine: Engine) -> None:
    await engine.begin("web", o.Deploy(spec=quick(notify=["json://user:pass@hooks.example.org/token"])))
    await world.until_over()
    assert (await engine.app("web"))["spec"]["notify"] == ["json://hooks.example.org…"]
