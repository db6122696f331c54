"""A data directory with a real keeper and process runtime, ended with all that it started; used by tests."""

from __future__ import annotations

import asyncio
import inspect
import io
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from rota.adapters.clock import SystemClock
from rota.adapters.keeper import Child, Children
from rota.adapters.runtime.process import ProcessRuntime
from rota.adapters.source import ArchiveDirectory
from rota.core.names import ReplicaId
from rota.core.observation import ArtefactState
from rota.core.spec import AppSpec, Limits
from rota.ports.runtime import ReleaseOrder, StartOrder

_PATIENCE = 10.0


class Machine:
    """Everything of one data directory; ``options`` are ProcessRuntime's."""

    def __init__(self, data_dir: Path, options: dict[str, Any]) -> None:
        self.data_dir = data_dir
        self.options = options
        self.sources = ArchiveDirectory(data_dir / "sources")

    async def open(self) -> Self:
        """What a daemon does when it starts."""
        self.clock = SystemClock(self.data_dir)
        self.children = Children(self.data_dir)
        await self.children.open()
        self.runtime = ProcessRuntime(self.data_dir, self.children, self.sources, self.clock, **self.options)
        await self.runtime.open()
        return self

    async def close(self) -> None:
        """What is left when a daemon has ended: keeper and replicas."""
        await self.runtime.close()
        await self.children.close()

    async def end(self) -> None:
        """Nothing is left."""
        await self.runtime.close()
        # A test may have ended the keeper; the next one has to be there before its children can be ended.
        await self.children.until("", lambda child: True, _PATIENCE)
        for name, child in list(self.children.known.items()):
            await self.children.signal(name, "KILL", tree=True, restart=False)
            await self.children.until(name, _ended, _PATIENCE)
            if "rota.replica" in child.meta:
                await self.runtime.remove(ReplicaId(name))
            else:
                await self.children.forget(name)
        await self.children.shutdown()
        await self.children.close()
        shutil.rmtree(self.data_dir)

    async def unpacked(self, app: AppSpec, release: int = 1, **files: str) -> None:
        """A prepared release of these files (``__`` in a name is a dot)."""
        await self.runtime.prepare(ReleaseOrder(app.name, release, await self.sources.put(one(packed(**files))), app))
        await until(lambda: self._is_prepared(app.name, release))

    async def _is_prepared(self, app: str, release: int) -> bool:
        artefact = (await self.runtime.observe())[1][app, release]
        if artefact.state is ArtefactState.FAILED:
            raise AssertionError(artefact.reason)
        return artefact.state is ArtefactState.PREPARED


@asynccontextmanager
async def machine(**options: Any) -> AsyncIterator[Machine]:
    """On a short path, since a Unix socket's is at most 107 bytes long."""
    made = await Machine(Path(tempfile.mkdtemp(prefix="rota-")), options).open()
    try:
        yield made
    finally:
        await made.end()


def packed(**files: str) -> bytes:
    """A tar of executable files; ``__`` in a name is a dot."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name.replace("__", "."))
            member.size, member.mode = len(text.encode()), 0o755
            tar.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


async def one(content: bytes) -> AsyncIterator[bytes]:
    """An upload of one piece."""
    yield content


def app_spec(*command: str, **fields: Any) -> AppSpec:
    """An app named web, unless ``fields`` say otherwise, that sleeps, unless ``command`` does."""
    return AppSpec.model_validate({"name": "web", "command": command or ("sleep", "60"), **fields})


def start_order(number: int, app: AppSpec, **fields: Any) -> StartOrder:
    """The app's replica of this number, in the slot of that number."""
    values = {"slot": number, "release": 1, "generation": 1, "limits": Limits(), **fields}
    return StartOrder(replica=ReplicaId(f"{app.name}-{number}"), app=app.name, spec=app, **values)


async def until(condition: Callable[[], Any], timeout: float = _PATIENCE) -> Any:
    """Asks again every few milliseconds until the answer, or what is awaited of it, is true; returns that. Raises
    TimeoutError."""
    async with asyncio.timeout(timeout):
        while True:
            found = condition()
            if inspect.isawaitable(found):
                found = await found
            if found:
                return found
            await asyncio.sleep(0.005)


def _ended(child: Child | None) -> bool:
    return child is None or not child.alive
