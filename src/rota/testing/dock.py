"""A data directory with a docker runtime on a test's engine, ended with all that it made there; used by tests."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from rota.adapters.clock import SystemClock
from rota.adapters.runtime.docker import DockerRuntime
from rota.core.names import ReplicaId
from rota.core.observation import ArtefactState, ObservedReplica
from rota.core.spec import AppSpec
from rota.ports.runtime import ReleaseOrder
from rota.testing.docker import BUSYBOX, DockerEngine
from rota.testing.machine import app_spec, start_order


class Dock:
    """A runtime is opened, and may be closed and opened again as a daemon does that starts anew."""

    def __init__(self, engine: DockerEngine, data_dir: Path, host: str) -> None:
        self.engine = engine
        self.host = host
        self.data_dir = data_dir
        self.server_id = secrets.token_hex(16)
        self.woken: list[str] = []

    async def open(self) -> Self:
        self.runtime = DockerRuntime(self.data_dir, self.server_id, SystemClock(self.data_dir), host=self.host)
        self.runtime.on_change(self.woken.append)
        await self.runtime.open()
        return self

    async def close(self) -> None:
        await self.runtime.close()

    async def end(self) -> None:
        """Nothing of this server is left on the engine but images."""
        await self.close()
        await asyncio.to_thread(self.engine.clear)
        shutil.rmtree(self.data_dir)

    def name(self, replica: str) -> str:
        """Its container's."""
        return f"{replica}.{self.server_id[:8]}"

    async def inspect(self, replica: str) -> dict[str, Any]:
        return dict(json.loads(await self.engine.cli("inspect", self.name(replica)))[0])

    async def replica(self, replica: str = "web-1") -> ObservedReplica | None:
        return (await self.runtime.observe())[0].get(ReplicaId(replica))

    async def prepared(self, app: AppSpec, release: int = 1) -> None:
        """Raises AssertionError with the reason when it cannot be."""
        await self.runtime.prepare(ReleaseOrder(app.name, release, None, app))
        async with asyncio.timeout(20):
            while not await self._is_prepared(app.name, release):  # noqa: ASYNC110  (the engine's, too)
                await asyncio.sleep(0.005)

    async def started(self, app: AppSpec, number: int = 1, **fields: Any) -> ObservedReplica:
        """A running replica of a prepared release."""
        await self.prepared(app)
        await self.runtime.start(start_order(number, app, **fields))
        seen = await self.replica(f"{app.name}-{number}")
        assert seen is not None
        return seen

    async def _is_prepared(self, app: str, release: int) -> bool:
        artefact = (await self.runtime.observe())[1][app, release]
        assert artefact.state is not ArtefactState.FAILED, artefact.reason
        return artefact.state is ArtefactState.PREPARED


@asynccontextmanager
async def dock(engine: DockerEngine, host: str | None = None) -> AsyncIterator[Dock]:
    """``host``: another way to the same engine."""
    made = Dock(engine, Path(tempfile.mkdtemp(prefix="rota-")), host or engine.host)
    await made.open()
    try:
        yield made
    finally:
        await made.end()


def box_spec(*command: str, **fields: Any) -> AppSpec:
    """An app named web in the busybox image; as app_spec."""
    return app_spec(*command, **{"image": {"repository": BUSYBOX[:-2], "tag": "1", "pull": "never"}, **fields})
