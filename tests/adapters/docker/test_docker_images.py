"""Where the docker runtime's images come from, and that a release keeps the one it was made with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.docker.registry import PASSWORD, USER, Registry, running

from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ArtefactState
from rota.ports.runtime import ReleaseOrder
from rota.testing import images
from rota.testing.dock import Dock, box_spec
from rota.testing.docker import BUSYBOX
from rota.testing.machine import start_order, until


@pytest.fixture
def registry() -> Iterator[Registry]:
    with running() as made:
        yield made


def image(registry: Registry, /, tag: str = "1", **fields: Any) -> dict[str, Any]:
    credentials = {"server": registry.address, "username": USER, "password": PASSWORD}
    return {"repository": f"{registry.address}/app", "tag": tag, "registry": credentials} | fields


async def artefact(box: Dock, release: int = 1) -> Artefact | None:
    return (await box.runtime.observe())[1].get(("web", release))


async def failure(box: Dock, **fields: Any) -> str:
    await box.runtime.prepare(ReleaseOrder("web", 1, None, box_spec(**fields)))

    async def failed() -> Artefact | None:
        found = await artefact(box)
        return found if found is not None and found.state is ArtefactState.FAILED else None

    return str((await until(failed)).reason)


async def prints(box: Dock, replica: str, greeting: str) -> None:
    async def told() -> bool:
        return await box.runtime.logs.tail(ReplicaId(replica), 1) == (greeting,)

    await until(told)


async def test_a_release_keeps_its_image_when_the_tag_moves(box: Dock, registry: Registry) -> None:
    registry.put("1", images.busybox(), "first")
    app = box_spec(command=[], image=image(registry, pull="always"))
    await box.prepared(app)
    registry.put("1", images.busybox(), "second")
    await box.prepared(app, release=2)
    for number, release, greeting in ((1, 1, "first"), (2, 2, "second"), (3, 1, "first")):
        await box.runtime.start(start_order(number, app, release=release))
        await prints(box, f"web-{number}", greeting)


async def test_a_registry_is_asked_by_the_apps_policy(box: Dock, registry: Registry) -> None:
    registry.put("1", images.busybox(), "hello")
    await box.prepared(box_spec(image=image(registry)))
    asked = registry.requests
    assert asked > 0
    await box.prepared(box_spec(image=image(registry)), release=2)
    assert registry.requests == asked
    await box.prepared(box_spec(image=image(registry, pull="always")), release=3)
    assert registry.requests > asked


async def test_what_a_registry_refuses_is_told(box: Dock, registry: Registry) -> None:
    registry.put("1", images.busybox(), "hello")
    reason = await failure(box, image=image(registry, tag="2"))
    assert f"the image {registry.address}/app:2 cannot be pulled: " in reason
    assert "manifest" in reason
    reason = await failure(box, image=image(registry, registry=None))
    assert f"the image {registry.address}/app:1 cannot be pulled: " in reason
    assert "basic auth" in reason or "unauthorized" in reason


async def test_a_registry_that_is_not_there_is_told(box: Dock) -> None:
    reason = await failure(box, image={"repository": "127.0.0.1:1/app"})
    assert "the image 127.0.0.1:1/app:latest cannot be pulled: " in reason
    assert "connection refused" in reason


async def test_an_image_for_another_platform_is_refused(box: Dock, registry: Registry) -> None:
    registry.put("1", images.busybox(), "hello", architecture="s390x")
    reason = await failure(box, image=image(registry))
    assert reason.startswith(f"the image {registry.address}/app:1 is for linux/s390x, this engine runs linux/")


async def test_a_failed_release_is_tried_again_when_it_is_asked_for(box: Dock) -> None:
    await failure(box, image={"repository": "test/later", "pull": "never"})
    await box.engine.cli("tag", BUSYBOX, "test/later:latest")
    await box.prepared(box_spec(image={"repository": "test/later", "pull": "never"}))
    await box.engine.cli("rmi", "test/later:latest")


async def test_forgetting_a_release_leaves_what_is_not_rotas(box: Dock) -> None:
    await box.prepared(box_spec())
    await box.runtime.forget("web", frozenset())
    assert await artefact(box) is None
    listed = (await box.engine.cli("images", "--format", "{{.Repository}}:{{.Tag}}")).split()
    assert BUSYBOX in listed
    assert not [name for name in listed if box.server_id[:8] in name]
    await box.runtime.forget("web", frozenset())


async def test_a_tag_removed_behind_rotas_back_is_noticed_by_the_next_daemon(box: Dock) -> None:
    await box.prepared(box_spec())
    await box.engine.cli("rmi", f"rota-{box.server_id[:8]}/web:1")
    await box.close()
    await box.open()
    assert await artefact(box) is None
