"""Names between containers: one app's replica finds another app's by name, without being told of any name server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from tests.e2e.scenario import Hello
from tests.e2e.site import Containers, ServerAt

from rota.testing.docker import DockerEngine
from rota.testing.server import free_port

RESOLVE = """
import socket, sys, urllib.request
name, port = sys.argv[1], int(sys.argv[2])
found = {place[4][0] for place in socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_STREAM)}
print(*sorted(found))
print(urllib.request.urlopen(f"http://{name}:{port}/version", timeout=5).status)
"""


@pytest_asyncio.fixture
async def server(docker_engine: DockerEngine) -> AsyncIterator[ServerAt]:
    async with ServerAt(Containers(docker_engine), "--dns", f"127.0.0.1:{free_port()}") as running:
        yield running


@pytest.mark.feature("V5")
async def test_one_app_s_container_finds_another_app_by_name(server: ServerAt, docker_engine: DockerEngine) -> None:
    front, back = Hello(server, "front", replicas=1), Hello(server, "back", replicas=2)
    for app in (front, back):
        await app.deploy_ok()
    places = sorted(replica["address"] for replica in await server.replicas("back"))
    hosts = [place.rpartition(":")[0] for place in places]
    port = places[0].rpartition(":")[2]
    (container,) = (await docker_engine.cli("ps", "-q", "--filter", "label=rota.app=front")).split()
    asking = ("exec", container, "python3", "-c", RESOLVE, "back.rota.internal", port)

    async def found() -> bool:
        return (await docker_engine.cli(*asking)).split() == [*hosts, "200"]

    await server.until(found)
