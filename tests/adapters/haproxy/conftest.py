"""A rig a test: a real HAProxy of each version, in a directory and on a port of its own."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from rota.adapters.balancer.haproxy import HaproxyBalancer, Settings
from rota.adapters.balancer.haproxy.binary import bundled
from rota.core.backend import Backend
from rota.core.names import ReplicaId
from rota.core.observation import ObservedBalancer
from rota.testing.haproxy import Client, LocalLauncher, WebServer, free_port

APP = "hello"
HOST = "hello.localhost"


class Rig:
    """One HAProxy with the port in front of it, and the web servers that the test puts behind it."""

    def __init__(self, directory: Path, binary: str) -> None:
        self.binary = binary
        self.port = free_port()
        self.settings = Settings(directory, (f"127.0.0.1:{self.port}",), reload_interval=0.2, hard_stop=20, maxconn=500)
        self.launcher = LocalLauncher(directory / "haproxy.log")
        self.balancer = HaproxyBalancer(self.settings, binary, self.launcher)
        self.servers: list[WebServer] = []

    async def web(self, name: str) -> WebServer:
        server = await WebServer(name).start()
        self.servers.append(server)
        return server

    async def ready(self, count: int, backend: Backend, host: str = HOST) -> list[WebServer]:
        await self.balancer.prepare(backend, (host,))
        servers = [await self.web(f"{backend.app}-{number}") for number in range(1, count + 1)]
        for server in servers:
            await self.balancer.enable(ReplicaId(server.name), backend.app, backend.name, server.address)
        return servers

    async def see(self, app: str = APP) -> ObservedBalancer:
        return (await self.balancer.observe())[app]

    async def busy(self, replica: ReplicaId) -> int:
        """Open requests to a replica, and old processes that may still send it one."""
        server = (await self.see()).servers.get(replica)
        return 0 if server is None else server.open + server.old_holders

    async def idle(self, replica: ReplicaId) -> bool:
        return not await self.busy(replica)

    async def up(self, replica: ReplicaId) -> bool:
        return (await self.see()).servers[replica].up

    async def down(self, replica: ReplicaId) -> bool:
        return not await self.up(replica)

    def client(self, host: str = HOST) -> Client:
        return Client(self.port, host)

    async def another_daemon(self) -> HaproxyBalancer:
        """The daemon gone and started again, with HAProxy running on."""
        await self.balancer.close()
        self.balancer = HaproxyBalancer(self.settings, self.binary, self.launcher)
        await self.balancer.start()
        return self.balancer

    async def close(self) -> None:
        await self.balancer.close()
        await self.launcher.close()
        for server in self.servers:
            await server.stop()


def pool(check: str | None = "/health", app: str = APP, interval: float = 2.0) -> Backend:
    return Backend(app, check, interval, 0.1, 1.0, 3, 2)


@pytest.fixture
def directory() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="rota-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@pytest.fixture(params=["system", "bundled"])
def binary(request: pytest.FixtureRequest) -> str:
    found = shutil.which("haproxy") if request.param == "system" else bundled()
    assert found is not None, f"the {request.param} haproxy is missing"
    return found


@pytest.fixture
async def rig(directory: Path, binary: str) -> AsyncIterator[Rig]:
    rig = Rig(directory, binary)
    try:
        await rig.balancer.start()
        yield rig
    finally:
        await rig.close()
