"""A real HAProxy for tests: a parent that restarts it and a rig around the adapter; used by the contract suite and
the adapter's tests."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

from rota.adapters.balancer.haproxy import HaproxyBalancer, Run, Settings
from rota.adapters.balancer.haproxy.binary import bundled
from rota.adapters.balancer.haproxy.newest import LOG
from rota.adapters.clock import SystemClock
from rota.core.backend import Backend
from rota.core.errors import Missing
from rota.core.names import ReplicaId
from rota.core.observation import ObservedBalancer
from rota.testing.web import Client, Load, WebServer

APP = "hello"
HOST = "hello.localhost"


def binary_of(kind: str) -> str:
    """``system`` or ``bundled``; raises Missing, so that a test of a version that is not there fails."""
    found = shutil.which("haproxy") if kind == "system" else bundled()
    if found is None:
        raise Missing(f"the {kind} haproxy is not installed")
    return found


@asynccontextmanager
async def running_rig(kind: str, **settings: Any) -> AsyncIterator[Rig]:
    """A started HAProxy with nothing behind it, in a directory and on a port of its own; ``settings`` are others than
    a test's usual ones."""
    directory = Path(tempfile.mkdtemp(prefix="rota-"))
    rig = Rig(directory, binary_of(kind), **settings)
    try:
        await rig.balancer.start()
        yield rig
    finally:
        await rig.close()
        shutil.rmtree(directory)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], Awaitable[object]], deadline: float) -> None:
    """Returns once the condition holds; raises TimeoutError after ``deadline`` seconds."""
    async with asyncio.timeout(deadline):
        while not await condition():  # noqa: ASYNC110  (another process's)
            await asyncio.sleep(0.01)


class LocalLauncher:
    """Runs HAProxy as a child of the test and starts it again when it ends, as the keeper does; without listening for
    it."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._runs: list[Run] = []
        self._wakes: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """HAProxy's master."""
        return self._runs[-1].pid

    async def ensure(self, argv: Sequence[str], listen: Mapping[str, str]) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._keep(tuple(argv)))

    async def listen(self, listen: Mapping[str, str]) -> None:
        pass

    async def runs(self) -> Sequence[Run]:
        return tuple(self._runs)

    def on_exit(self, wake: Callable[[], None]) -> None:
        self._wakes.append(wake)

    async def close(self) -> None:
        """Ends HAProxy and its workers."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()  # the master passes it on to its workers, old ones included
            await self._process.wait()

    async def _keep(self, argv: tuple[str, ...]) -> None:
        while True:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(*argv, stdout=log, stderr=log)
            self._runs.append(Run(self._process.pid, time.time()))
            code = await self._process.wait()
            begun = self._runs.pop()
            self._runs.append(Run(begun.pid, begun.started_at, time.time(), f"HAProxy ended with {code}"))
            for wake in self._wakes:
                wake()
            await asyncio.sleep(0.02)  # not a hundred starts a second of one that cannot start


class Rig:
    """One HAProxy with the port in front of it, and the web servers that the test puts behind it."""

    def __init__(self, directory: Path, binary: str, **settings: Any) -> None:
        self.binary = binary
        self.port = free_port()
        usual = {"reload_interval": 0.2, "hard_stop": 20, "maxconn": 500}
        self.settings = Settings(directory, (f"127.0.0.1:{self.port}",), **(usual | settings))
        self.launcher = LocalLauncher(directory / LOG)
        self.clock = SystemClock(directory)
        self.balancer = HaproxyBalancer(self.settings, binary, self.launcher, self.clock)
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

    async def settled(self) -> bool:
        """Whether no process that a reload has replaced is waited for any more."""
        return not self.balancer._ended.following

    async def up(self, replica: ReplicaId) -> bool:
        return (await self.see()).servers[replica].up

    async def down(self, replica: ReplicaId) -> bool:
        return not await self.up(replica)

    def client(self, host: str = HOST) -> Client:
        return Client(self.port, host)

    async def say(self, text: bytes) -> bytes:
        """Bytes as they are, and everything that comes back until the other side closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(text)
        answer = await reader.read()
        writer.close()
        return answer

    def load(self, host: str = HOST) -> AbstractAsyncContextManager[Load]:
        return Load(self.port, host).running()

    async def another_daemon(self) -> HaproxyBalancer:
        """The daemon gone and started again, with HAProxy running on."""
        await self.balancer.close()
        self.balancer = HaproxyBalancer(self.settings, self.binary, self.launcher, self.clock)
        await self.balancer.start()
        return self.balancer

    async def close(self) -> None:
        await self.balancer.close()
        await self.launcher.close()
        for server in self.servers:
            await server.stop()


def pool(
    check: str | None = "/health",
    app: str = APP,
    interval: float = 2.0,
    cookie: str | None = None,
    balance: str = "round-robin",
) -> Backend:
    return Backend(app, check, interval, 0.1, 1.0, 3, 2, cookie, balance=balance)
