"""HAProxy as seen from outside: the current worker, told and read over its own socket, and the master, which names
them all; used by balancer.py and reloads.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

from rota.adapters.balancer.haproxy.rows import Rows, failing, read_rows
from rota.adapters.balancer.haproxy.sessions import Session, in_full
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.socket import Conversation, NotAnswering, call
from rota.adapters.balancer.haproxy.stats import (
    ALL_ROWS,
    FRONTENDS,
    Entry,
    Workers,
    number,
    read_entries,
    read_frontends,
    read_proc,
    read_stat,
)
from rota.core.errors import StepFailed

_PAYLOAD = 8_000  # bytes of map entries a command: HAProxy takes 16 kB (tune.bufsize) in all
_POLL = 0.005
_RELOAD_DEADLINE = 10.0  # seconds; 44 ms measured
_CUT_SHORT = "HAProxy's answer was cut short"

A = TypeVar("A")
T = TypeVar("T")


def whole(read: Callable[[A], T], answer: A) -> T:
    """What an answer says. Raises NotAnswering for half of one: HAProxy was killed while it spoke."""
    try:
        return read(answer)
    except (ValueError, IndexError) as error:
        raise NotAnswering(_CUT_SHORT) from error


async def wholly(reading: Awaitable[T]) -> T:
    """The same of what takes a while to read."""
    try:
        return await reading
    except (ValueError, IndexError) as error:
        raise NotAnswering(_CUT_SHORT) from error


class Haproxy:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def tell(self, line: str, *, accept: Sequence[str] = ()) -> str:
        """Runs commands in the current worker; silence is success. Raises StepFailed for any other answer that
        does not begin with one of ``accept``, NotAnswering when there is none."""
        answer = await call(self._settings.stats_socket, line)
        for said in filter(None, (part.strip() for part in answer.splitlines())):
            if not said.startswith(tuple(accept)):
                raise StepFailed(f"HAProxy refused {line.splitlines()[0]!r}: {said}")
        return answer

    async def read(self) -> Rows:
        """The current worker, all apps, in one call. Raises NotAnswering."""
        answer = await call(self._settings.stats_socket, f"{ALL_ROWS};show servers state;show info")
        return await wholly(read_rows(answer))

    async def failing(self) -> frozenset[tuple[str, str]]:
        """(backend, server) of the current worker's that would get requests and fail their checks. Raises
        NotAnswering."""
        return await wholly(failing(await call(self._settings.stats_socket, "show servers state")))

    async def sessions(self) -> list[Session]:
        """All that is open in the current worker. Raises NotAnswering."""
        return whole(in_full, await call(self._settings.stats_socket, "show sess all"))

    async def end(self, sessions: Sequence[Session]) -> None:
        """Ends some of the current worker's sessions. Raises NotAnswering."""
        if sessions:
            await self.tell(";".join(f"shutdown session {session.id}" for session in sessions), accept=("",))

    async def entries(self, backend: str = "") -> dict[str, Entry]:
        """The current worker's servers, or those of one backend, without their counts, a tenth of the cost. Raises
        NotAnswering."""
        answer = await call(self._settings.stats_socket, f"show servers state {backend}".rstrip())
        return whole(read_entries, answer.splitlines())

    async def cookie(self, backend: str, server: str) -> str:
        """The value that leads to a server in the current worker. Raises NotAnswering."""
        answer = await call(self._settings.stats_socket, f"show stat {backend} 4 -1")
        servers, _ = whole(read_stat, answer.splitlines())
        return servers[server].cookie if server in servers else ""

    async def pid(self) -> int:
        """The process that answers on the socket now. Raises NotAnswering."""
        return number(await call(self._settings.stats_socket, "show info"), "Pid")

    async def version(self) -> str:
        """The version of the current worker, in full. Raises NotAnswering."""
        info = await call(self._settings.stats_socket, "show info")
        return next((line.partition(": ")[2].strip() for line in info.splitlines() if line.startswith("Version: ")), "")

    async def backends(self) -> frozenset[str]:
        """The backends that the current worker has. Raises NotAnswering."""
        answer = await call(self._settings.stats_socket, "show backend")
        return frozenset(line for line in answer.split() if not line.startswith("#") and line != "name")

    async def frontends(self) -> frozenset[str]:
        """Those of TCP services that the current worker has. Raises NotAnswering."""
        return read_frontends((await call(self._settings.stats_socket, FRONTENDS)).splitlines())

    async def workers(self) -> Workers:
        """Raises NotAnswering."""
        return read_proc(await call(self._settings.master_socket, "show proc"))

    async def living(self) -> Workers:
        """The same, none while HAProxy does not answer."""
        try:
            return await self.workers() if await self.pid() else Workers(None, ())
        except NotAnswering:
            return Workers(None, ())

    async def replace_map(self, name: str, text: str) -> None:
        """Exchanges a map's entries in one moment. Raises StepFailed."""
        created = await self.tell(f"prepare map {name}", accept=["New version created:"])
        version = created.split(":")[1].strip()
        for chunk in _chunks(text):
            await self.tell(f"add map @{version} {name} <<\n{chunk}")
        await self.tell(f"commit map @{version} {name}")

    async def reload(self) -> Conversation:
        """Starts a worker on the file and returns, once it alone answers, a conversation with the one before, which
        stays as long as that is open. Raises StepFailed."""
        before = await self.pid()
        witness = await Conversation.open(self._settings.stats_socket)
        try:
            await call(self._settings.master_socket, "reload")
            await self._until_replaced(before)
        except StepFailed:
            witness.close()
            raise
        return witness

    async def until_answers(self, deadline: float) -> int:
        """The worker's pid as soon as it answers. Raises StepFailed after ``deadline`` seconds."""
        return await self._until(lambda pid: pid > 0, deadline, "HAProxy did not start")

    async def _until_replaced(self, before: int) -> None:
        await self._until(lambda pid: pid not in (0, before), _RELOAD_DEADLINE, "HAProxy did not take the new file")
        try:
            async with asyncio.timeout(_RELOAD_DEADLINE):
                while not await self._stopping(before):  # noqa: ASYNC110  (another process's)
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise StepFailed(f"HAProxy's earlier process still takes calls after {_RELOAD_DEADLINE:g} s") from error

    async def _stopping(self, pid: int) -> bool:
        """Whether an old worker has given up its sockets, so that no new call can still reach it."""
        try:
            info = await call(self._settings.master_socket, f"@!{pid} show info")
        except NotAnswering:
            return False
        return number(info, "Stopping") == 1 or "Pid:" not in info

    async def _settled_pid(self) -> int:
        """The worker's pid once the master names it as its own: at a start it answers some milliseconds later."""
        pid = await self.pid()
        return pid if (await self.workers()).current == pid else 0

    async def _until(self, fulfilled: Callable[[int], bool], deadline: float, failure: str) -> int:
        try:
            async with asyncio.timeout(deadline):
                while True:
                    try:
                        pid = await self._settled_pid()
                    except NotAnswering:
                        pid = 0
                    if fulfilled(pid):
                        return pid
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            raise StepFailed(f"{failure} within {deadline:g} s") from error


def process_id(pid: int) -> str | None:
    """What tells a process from all others, past and to come: boot id, pid and start ticks; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        return None
    return f"{boot[:8]}-{pid}-{stat.rpartition(')')[2].split()[19]}"


def _chunks(text: str) -> list[str]:
    chunks, chunk = [], ""
    for line in text.splitlines(keepends=True):
        if len(chunk) + len(line) > _PAYLOAD:
            chunks.append(chunk)
            chunk = ""
        chunk += line
    return [*chunks, chunk] if chunk else chunks
