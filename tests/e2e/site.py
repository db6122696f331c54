"""Where the replicas of an end-to-end test run: as processes or in containers of an engine of the tests' own. The tests
are the same; what differs is here."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Protocol

from rota.testing.docker import HELLO, DockerEngine
from rota.testing.server import RunningServer

RUNTIMES = ("process", "docker")


class Site(Protocol):
    name: str
    options: tuple[str, ...]
    """What ``rota serve`` is given."""
    variables: frozenset[str]
    """What a replica finds in its environment beside PORT and what is rota's."""

    def keys(self) -> dict[str, Any]:
        """What hello's file says of what is to be run."""
        ...

    async def kill(self, server: RunningServer, replica: str) -> None:
        """SIGKILL to a replica's main process, as somebody else would send it."""
        ...

    async def pid(self, server: RunningServer, replica: str) -> int:
        """Of the replica's main process, as this machine counts."""
        ...

    async def kept(self, server: RunningServer, app: str) -> set[str]:
        """The app's replicas that are there, whatever rota knows of them."""
        ...


class Processes:
    name = "process"
    options: tuple[str, ...] = ()
    variables = frozenset({"PATH", "TMPDIR", "HOME", "USER", "LOGNAME", "LANG"})

    def keys(self) -> dict[str, Any]:
        return {"command": [sys.executable, "app.py"]}

    async def kill(self, server: RunningServer, replica: str) -> None:
        server.kill_child(replica)

    async def pid(self, server: RunningServer, replica: str) -> int:
        return int(server.child(replica)["pid"])

    async def kept(self, server: RunningServer, app: str) -> set[str]:
        children = server.directory / "state/keeper/children"
        return {path.stem for path in children.glob(f"{app}-*.json")}


class Containers:
    name = "docker"
    variables = frozenset({"PATH", "HOME", "HOSTNAME", "HOST"})  # the last is of hello's image

    def __init__(self, engine: DockerEngine, host: str | None = None) -> None:
        """``host``: another way to the same engine."""
        self._engine = engine
        self.options: tuple[str, ...] = ("--runtime", "docker", "--docker-host", host or engine.host)

    def keys(self) -> dict[str, Any]:
        return {"image": HELLO}

    async def kill(self, server: RunningServer, replica: str) -> None:
        await asyncio.to_thread(self._engine.docker, "kill", await self._container(replica))

    async def pid(self, server: RunningServer, replica: str) -> int:
        found = await asyncio.to_thread(
            self._engine.docker, "inspect", "--format", "{{.State.Pid}}", await self._container(replica)
        )
        return int(found)

    async def kept(self, server: RunningServer, app: str) -> set[str]:
        listing = ("ps", "-a", "--filter", f"label=rota.app={app}", "--format", '{{.Label "rota.replica"}}')
        return set((await asyncio.to_thread(self._engine.docker, *listing)).split())

    async def _container(self, replica: str) -> str:
        listing = ("ps", "-aq", "--filter", f"label=rota.replica={replica}")
        (found,) = (await asyncio.to_thread(self._engine.docker, *listing)).split()
        return found


class ServerAt(RunningServer):
    """A server of a site, which knows how to reach its replicas from outside."""

    def __init__(self, site: Site, *options: str, directory: Path | None = None) -> None:
        super().__init__(directory, *site.options, *options)
        self.site = site

    async def kill_replica(self, replica: str) -> None:
        await self.site.kill(self, replica)
