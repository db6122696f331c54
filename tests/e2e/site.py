"""Where the replicas of an end-to-end test run: as processes or in containers of an engine of the tests' own. The tests
are the same; what differs is here."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Protocol

from rota.testing.docker import HELLO, DockerEngine
from rota.testing.server import RunningServer

RUNTIMES = ("process", "docker")


class Site(Protocol):
    name: str
    options: tuple[str, ...]
    """What ``rota serve`` is given."""

    def keys(self) -> dict[str, Any]:
        """What hello's file says of what is to be run."""
        ...

    async def kill(self, server: RunningServer, replica: str) -> None:
        """SIGKILL to a replica's main process, as somebody else would send it."""
        ...

    async def kept(self, server: RunningServer, app: str) -> set[str]:
        """The app's replicas that are there, whatever rota knows of them."""
        ...


class Processes:
    name = "process"
    options: tuple[str, ...] = ()

    def keys(self) -> dict[str, Any]:
        return {"command": [sys.executable, "app.py"]}

    async def kill(self, server: RunningServer, replica: str) -> None:
        server.kill_child(replica)

    async def kept(self, server: RunningServer, app: str) -> set[str]:
        children = server.directory / "state/keeper/children"
        return {path.stem for path in children.glob(f"{app}-*.json")}


class Containers:
    name = "docker"

    def __init__(self, engine: DockerEngine) -> None:
        self._engine = engine
        self.options = ("--runtime", "docker", "--docker-host", engine.host)

    def keys(self) -> dict[str, Any]:
        return {"image": HELLO}

    async def kill(self, server: RunningServer, replica: str) -> None:
        await asyncio.to_thread(self._engine.docker, "kill", await self._container(replica))

    async def kept(self, server: RunningServer, app: str) -> set[str]:
        listing = ("ps", "-a", "--filter", f"label=rota.app={app}", "--format", '{{.Label "rota.replica"}}')
        return set((await asyncio.to_thread(self._engine.docker, *listing)).split())

    async def _container(self, replica: str) -> str:
        listing = ("ps", "-aq", "--filter", f"label=rota.replica={replica}")
        (found,) = (await asyncio.to_thread(self._engine.docker, *listing)).split()
        return found


class ServerAt(RunningServer):
    """A server of a site, which knows how to reach its replicas from outside."""

    def __init__(self, site: Site, *options: str) -> None:
        super().__init__(None, *site.options, *options)
        self.site = site

    async def kill_replica(self, replica: str) -> None:
        await self.site.kill(self, replica)
