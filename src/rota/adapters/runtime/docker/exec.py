"""A command in a replica's container, by the engine's exec; fulfils the Exec port.

The engine cannot end what it has begun so: after the timeout its processes are killed here, found by a mark in their
environment among those of the container. On an engine of another machine, or where rota may not, they are left to end
by themselves; nobody waits for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from rota.adapters.cgroupfiles import directories, members
from rota.adapters.runtime.command import with_port
from rota.adapters.runtime.docker.client import Client, Refused
from rota.adapters.runtime.docker.frames import frames
from rota.adapters.runtime.docker.table import Entry
from rota.adapters.runtime.marked import Mark, end
from rota.adapters.runtime.output import Output
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.ports.exec import MOST_OUTPUT, NOT_EXECUTABLE, NOT_FOUND, Ran

_NOT_STARTED = re.compile(r"executable file not found|no such file or directory", re.IGNORECASE)
_NOT_ALLOWED = re.compile(r"permission denied|exec format error", re.IGNORECASE)
_AT_FULL_SPEED = 16 * 2**20  # bytes of output; from then on it is read so slowly that it costs next to nothing
_SLOW = 0.02  # seconds between two pieces


class ContainerExec:
    """``entry_of`` gives what is known of a replica's container, None when there is none."""

    def __init__(self, client: Client, entry_of: Callable[[ReplicaId], Entry | None]) -> None:
        self._client = client
        self._entry_of = entry_of

    async def run(
        self, replica: ReplicaId, command: Sequence[str], timeout: float, most_output: int = MOST_OUTPUT
    ) -> Ran:
        entry = self._entry_of(replica)
        if entry is None or not entry.seen.running:
            raise StepFailed(f"{replica} does not run")
        output, mark, code, begun = Output(most_output), Mark(), None, False
        try:
            async with asyncio.timeout(timeout):
                made = await self._create(entry, with_port(command, entry.labels.port, entry.labels.as_named), mark)
                async with self._started(made) as pieces:
                    begun = True
                    async for _, content in frames(_paced(pieces)):
                        output.add(content)
                code = await self._code(made)
        except Refused as refused:
            return _not_started(replica, refused)
        except TimeoutError:
            if not begun:  # that says nothing of the replica
                raise StepFailed(f"the Docker engine began nothing in {replica} within {timeout:g} s") from None
        finally:
            if code is None and self._client.is_local:
                await asyncio.shield(asyncio.create_task(asyncio.to_thread(_end, entry, mark)))
        return output.ran(code)

    async def _create(self, entry: Entry, command: Sequence[str], mark: Mark) -> str:
        variables = [f"{name}={value}" for name, value in mark.variables.items()]
        body = {"AttachStdout": True, "AttachStderr": True, "Cmd": list(command), "Env": variables}
        try:
            return str((await self._client.post(f"containers/{entry.seen.id}/exec", body=body))["Id"])
        except Refused as refused:
            raise StepFailed(f"{entry.labels.replica} does not run: {refused.message}") from refused

    def _started(self, made: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """What it writes until it has ended."""
        body = {"Detach": False, "Tty": False}
        return self._client.bytes(f"exec/{made}/start", {}, method="POST", body=body)

    async def _code(self, made: str) -> int:
        code = (await self._client.get(f"exec/{made}/json"))["ExitCode"]
        return int(code) if code is not None else NOT_FOUND


async def _paced(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    total = 0
    async for piece in pieces:
        yield piece
        total += len(piece)
        if total > _AT_FULL_SPEED:
            await asyncio.sleep(_SLOW)


def _not_started(replica: ReplicaId, refused: Refused) -> Ran:
    """Raises StepFailed for what is not the program's fault."""
    if _NOT_STARTED.search(refused.message):
        return Ran(NOT_FOUND, refused.message)
    if _NOT_ALLOWED.search(refused.message):
        return Ran(NOT_EXECUTABLE, refused.message)
    raise StepFailed(f"{replica} does not run: {refused.message}") from refused


def _end(entry: Entry, mark: Mark) -> None:
    """Only in the container's own group: a daemon in a container sees other processes under the engine's numbers."""
    file = Path(f"/proc/{entry.seen.pid}/cgroup")
    with suppress(OSError):
        if entry.seen.id in file.read_text():
            groups = directories(file)
            end(mark, lambda: members(groups) or ())
