"""Where the docker runtime's images come from, and that a release keeps the one it was made with."""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.adapters.docker.registry import PASSWORD, USER, Registry, running
from tests.adapters.docker.served import client, serving

from rota.adapters.inturn import InTurn
from rota.adapters.runtime.docker import images as pulled
from rota.adapters.runtime.docker.images import Images
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.pins import Pin, Pins
from rota.core.errors import StartFailed, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ArtefactState
from rota.core.spec import AppSpec
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


async def test_a_pull_that_takes_long_says_how_far_it_is(box: Dock, registry: Registry) -> None:
    registry.put("1", images.busybox(), "hello")
    registry.may_give.clear()
    spec = box_spec(image=image(registry))
    await box.runtime.prepare(ReleaseOrder("web", 1, None, spec))

    async def said() -> bool:
        found = await artefact(box)
        return found is not None and found.progress == f"pulling {registry.address}/app:1"

    await until(said)
    registry.may_give.set()
    await box.prepared(spec)
    assert await artefact(box) == Artefact(1, ArtefactState.PREPARED)


async def test_a_pull_says_how_much_of_it_is_there(
    box: Dock, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pulled, "_TOLD_EVERY", 0.0)
    (tmp_path / "file").write_bytes(os.urandom(2**20))  # the engine has no such layer
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        tar.add(tmp_path / "file", "file")
    registry.put("1", tmp_path / "root.tar", "hello")
    registry.may_finish.clear()
    spec = box_spec(image=image(registry))
    await box.runtime.prepare(ReleaseOrder("web", 1, None, spec))

    async def a_part_is_there() -> bool:
        found = await artefact(box)
        said = found.progress if found is not None else ""
        told = re.fullmatch(re.escape(f"pulling {registry.address}/app:1: ") + r"(\d\.\d) of 1\.0 MiB", said)
        return told is not None and 0.4 < float(told[1]) < 1.0

    await until(a_part_is_there)
    registry.may_finish.set()
    await box.prepared(spec)


@pytest.mark.parametrize(
    ("refusal", "way_out"),
    [
        ("write /x/tmp/GetImageBlob1: no space left on device", "docker system prune frees some"),
        ("manifest unknown", "check image:, its registry: and the way there"),
    ],
)
async def test_what_breaks_a_pull_off_is_told_with_its_own_way_out(tmp_path: Path, refusal: str, way_out: str) -> None:
    pulls = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal pulls
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.41"})
        if request.path.endswith("/images/create"):
            pulls += 1
            return web.Response(text=json.dumps({"error": refusal}))
        return web.json_response({"message": "no such image"}, status=404)

    async with serving(answer) as host, client(host) as asked:
        turn = InTurn("i")
        pins = Pins(tmp_path / "i.json", turn)
        found = Images(asked, Names("0" * 32), pins, lambda app: None)
        order = ReleaseOrder("web", 1, None, box_spec(image={"repository": "ghcr.io/me/app"}))
        found.prepare(order)
        await until(lambda: found.known["web", 1].state is ArtefactState.FAILED)
        reason = found.known["web", 1].reason
        assert reason.startswith("the image ghcr.io/me/app:latest cannot be pulled: ")
        assert refusal in reason
        assert reason.endswith(way_out)
        await pins.put(("web", 1), Pin("sha256:0", ("ghcr.io/me/app@sha256:1",)))
        found.prepare(order)
        await until(lambda: pulls == 2 and found.known["web", 1].state is ArtefactState.FAILED)
        assert ("docker system prune" in found.known["web", 1].reason) is ("no space" in refusal)
        await turn.close()


async def test_a_tag_that_finds_no_room_is_told_with_the_way_out(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/tag"):
            said = "write /x/image/overlay2/.tmp-repositories.json1: no space left on device"
            return web.json_response({"message": said}, status=500)
        return web.json_response({"ApiVersion": "1.41", "Id": "sha256:0"})

    async with serving(answer) as host, client(host) as asked:
        turn = InTurn("i")
        found = Images(asked, Names("0" * 32), Pins(tmp_path / "i.json", turn), lambda app: None)
        found.prepare(ReleaseOrder("web", 1, None, box_spec()))
        await until(lambda: found.known["web", 1].state is ArtefactState.FAILED)
        reason = found.known["web", 1].reason
        assert reason.startswith("the disk of the engine's machine is full ("), reason
        await turn.close()


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


async def test_a_tag_removed_or_moved_behind_rotas_back_is_put_back(box: Dock) -> None:
    await box.prepared(box_spec())
    tag = f"rota-{box.server_id[:8]}/web:1"
    right = await box.engine.cli("inspect", "--format", "{{.Id}}", tag)
    other = await box.engine.cli("import", str(images.busybox()), tag)
    assert other != right
    for remove in (False, True):
        if remove:
            await box.engine.cli("rmi", tag)
        await box.close()
        await box.open()
        assert await box.engine.cli("inspect", "--format", "{{.Id}}", tag) == right
        assert await artefact(box) == Artefact(1, ArtefactState.PREPARED)
    await box.engine.cli("rmi", other)


async def test_an_image_that_is_gone_is_had_again_by_its_digest(box: Dock, registry: Registry) -> None:
    app = box_spec(command=[], image=image(registry))
    await moved_on_and_pruned(box, registry, app)
    await box.runtime.start(start_order(1, app))  # rota has not seen yet that it is gone
    await prints(box, "web-1", "first")
    await box.engine.cli("rm", "-f", box.name("web-1"))
    await pruned(box)
    await box.close()
    await box.open()
    assert await artefact(box) == Artefact(1, ArtefactState.LOST)
    await box.prepared(app)
    await box.runtime.start(start_order(2, app))
    await prints(box, "web-2", "first")


async def test_another_image_never_takes_the_place_of_one_that_is_gone(box: Dock, registry: Registry) -> None:
    app = box_spec(command=[], image=image(registry))
    await moved_on_and_pruned(box, registry, app)
    registry.digests.clear()
    registry.blobs.clear()  # the engine keeps manifests for a while
    await box.engine.cli("tag", BUSYBOX, f"{registry.address}/app:1")
    with pytest.raises(
        StartFailed, match=r"the image of release 1 \(sha256:[0-9a-f]{12}\) is gone from this engine"
    ) as gone:
        await box.runtime.start(start_order(1, app))
    assert "docker load it, or deploy again with another tag" in gone.value.message
    assert "cannot be pulled" in gone.value.message
    await box.close()
    await box.open()
    reason = await failure(box, command=[], image=image(registry))
    assert "is gone from this engine" in reason
    await box.engine.cli("rmi", f"{registry.address}/app:1")


async def test_a_local_image_that_is_gone_is_not_asked_of_a_registry(box: Dock) -> None:
    await box.engine.cli("import", str(images.busybox()), "test/gone:latest")
    spec = {"repository": "test/gone"}
    await box.prepared(box_spec(image=spec))
    await pruned(box)
    await box.engine.cli("tag", BUSYBOX, "test/gone:latest")
    with pytest.raises(StartFailed, match="is gone from this engine, and it came from no registry"):
        await box.runtime.start(start_order(1, box_spec(image=spec)))
    await box.engine.cli("rmi", "test/gone:latest")


async def test_a_forgotten_release_leaves_its_number_to_another(box: Dock, registry: Registry) -> None:
    """An app of the same name counts its releases from 1 again."""
    app = box_spec(command=[], image=image(registry, pull="always"))
    await moved_on_and_pruned(box, registry, app)
    await box.close()
    await box.open()
    await box.runtime.forget("web", frozenset())
    assert await artefact(box) is None
    await box.prepared(app)
    await box.runtime.start(start_order(1, app))
    await prints(box, "web-1", "second")


async def test_a_server_from_before_pins_believes_its_tags(box: Dock, registry: Registry) -> None:
    registry.put("1", images.busybox(), "first")
    app = box_spec(command=[], image=image(registry))
    await box.prepared(app)
    await box.close()
    (box.data_dir / "images.json").unlink()
    await box.open()
    await pruned(box)
    await box.runtime.start(start_order(1, app))
    await prints(box, "web-1", "first")


async def test_pins_that_cannot_be_read_are_told(box: Dock) -> None:
    await box.close()
    (box.data_dir / "images.json").write_text("{")
    with pytest.raises(StepFailed, match=r"images\.json cannot be read .* put it back, or remove it"):
        await box.open()


async def moved_on_and_pruned(box: Dock, registry: Registry, app: AppSpec) -> None:
    """Release 1 is ``first``; its tag leads to ``second`` by now, and nothing of it is left on the engine."""
    registry.put("1", images.busybox(), "first")
    await box.prepared(app)
    registry.put("1", images.busybox(), "second")
    await pruned(box)


async def pruned(box: Dock, release: int = 1) -> None:
    pinned = await box.engine.cli("inspect", "--format", "{{.Id}}", f"rota-{box.server_id[:8]}/web:{release}")
    await box.engine.cli("rmi", "-f", pinned)
