"""One look at whether a replica answers, over plain sockets; fulfils the Prober port for the engine."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from rota.adapters.prober import command, http
from rota.adapters.prober.listeners import Holder, Listener, held_by, holder_of, listeners, listeners_in_namespace_of
from rota.core.healthcheck import Check, Kind
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.ports.exec import Exec
from rota.ports.prober import ProbeResult

_FIRST_LOOK, _MOST_BETWEEN = 0.5, 5.0  # seconds
_FORGOTTEN = 60.0  # seconds after which nobody asks any more about a replica that was not looked at


def _shared(replica: ReplicaId) -> int | None:
    return None


class SocketProber:
    """``pids_of`` gives the processes of a replica's tree, None where nobody else can listen at its address or that is
    not for this machine to say; ``namespace_of`` a process in a replica's network namespace, None where it shares the
    machine's; ``exec`` runs the commands of exec checks."""

    def __init__(
        self,
        pids_of: Callable[[ReplicaId], frozenset[int] | None],
        namespace_of: Callable[[ReplicaId], int | None] = _shared,
        exec: Exec | None = None,
    ) -> None:
        self._pids_of = pids_of
        self._exec = exec
        self._namespace_of = namespace_of
        self._looks: dict[tuple[ReplicaId, str], _Look] = {}
        self._holders: dict[int, tuple[float, Holder]] = {}

    async def accepts(
        self, replica: ReplicaId, address: Address, timeout: float, variable: str = "PORT"
    ) -> ProbeResult:
        try:
            async with asyncio.timeout(timeout), _connected(address):
                pass
        except TimeoutError:
            return _too_late(timeout)
        except ConnectionRefusedError:
            return ProbeResult(f"connection refused{await self._elsewhere(replica, address, variable)}")
        except OSError as error:
            return ProbeResult(_written(error))
        return await self._owned(replica, address)

    async def healthy(self, replica: ReplicaId, address: Address, check: Check, host: str) -> ProbeResult:
        if check.kind is Kind.EXEC and self._exec is not None:
            return await command.ask(self._exec, replica, check.command, check.timeout)
        try:
            async with asyncio.timeout(check.timeout), _connected(address) as connection:
                if check.kind is Kind.GRPC:
                    from rota.adapters.prober import grpc  # its library is of no use to most servers

                    return await grpc.check(connection, check.service, host)
                if check.path is None:
                    return ProbeResult()
                return await http.get(connection, check.path, host, check.expect_body)
        except TimeoutError:
            return _too_late(check.timeout)
        except OSError as error:
            return ProbeResult(_written(error))

    async def _owned(self, replica: ReplicaId, address: Address) -> ProbeResult:
        """Whether all that is accepted there goes to the replica; a port can be shared (SO_REUSEPORT, socket(7)). In a
        thread: where no control group names the replica's processes, all of the machine's are gone through."""
        strangers = await asyncio.to_thread(self._strangers, replica, address)
        if strangers is None:
            return ProbeResult("connection refused")  # it has closed between the two looks
        if not strangers:
            return ProbeResult()
        holder = await self._holder(min(strangers))
        return ProbeResult(f"port {address.port} is held by another process ({holder})")

    def _strangers(self, replica: ReplicaId, address: Address) -> frozenset[int] | None:
        """The sockets there that are not the replica's; None when there is none at all."""
        pids = self._pids_of(replica)
        if pids is None:
            return frozenset()
        found = frozenset(one.inode for one in listeners() if one.reaches(address))
        return found - held_by(found, pids) if found else None

    async def _holder(self, inode: int) -> Holder:
        """Not looked up at each try: this goes through all that every process has open."""
        now = asyncio.get_running_loop().time()
        self._holders = {known: one for known, one in self._holders.items() if one[0] > now}
        if inode not in self._holders:
            self._holders[inode] = (now + _MOST_BETWEEN, await asyncio.to_thread(holder_of, inode))
        return self._holders[inode][1]

    async def _elsewhere(self, replica: ReplicaId, address: Address, variable: str) -> str:
        """Not looked up at once, and ever more rarely: a refused connection costs next to nothing, and the look at all
        that listens would take the processor from the very replica that is starting, and from all that start with it.
        """
        now, key = asyncio.get_running_loop().time(), (replica, variable)
        last = self._looks.get(key)
        if last is None:
            self._looks = {name: look for name, look in self._looks.items() if look.due > now - _FORGOTTEN}
            self._looks[key] = last = _Look(now + _FIRST_LOOK, _FIRST_LOOK, "")
        elif now >= last.due:
            wait = min(2 * last.wait, _MOST_BETWEEN)
            found = await asyncio.to_thread(self._listens_elsewhere, replica, address, variable)
            self._looks[key] = last = _Look(now + wait, wait, found)
        return last.found

    def _listens_elsewhere(self, replica: ReplicaId, address: Address, variable: str) -> str:
        namespace = self._namespace_of(replica)
        if namespace is not None:
            return _in_namespace(list(listeners_in_namespace_of(namespace)), address, variable)
        pids = self._pids_of(replica)
        if not pids:
            return ""
        everywhere = list(listeners())
        own = held_by(frozenset(one.inode for one in everywhere), pids)
        return _instead([one for one in everywhere if one.inode in own], address, variable)


@dataclass(frozen=True)
class _Look:
    """When the next one is ``due``, how long that ``wait`` was, and what the last one ``found``."""

    due: float
    wait: float
    found: str


def _in_namespace(found: list[Listener], address: Address, variable: str) -> str:
    if any(one.port == address.port and one.is_loopback for one in found):
        return (
            f": it listens on port {address.port} of 127.0.0.1 inside its container, where nobody else gets to; "
            "let it listen on 0.0.0.0"
        )
    return _instead(found, address, variable)


def _instead(found: list[Listener], address: Address, variable: str) -> str:
    places = sorted(f"{one.host} port {one.port}" for one in found)
    if not places:
        return ""
    return f": it listens on {', '.join(places[:3])}, not on {address.host} port {address.port} (${variable})"


@asynccontextmanager
async def _connected(address: Address) -> AsyncIterator[socket.socket]:
    # A bare socket: asyncio's streams cost four times as much, and every replica is asked ten times a second.
    connection = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (address.host, address.port))
        yield connection
    finally:
        connection.close()


def _too_late(timeout: float) -> ProbeResult:
    return ProbeResult(f"no answer within {timeout:g} s")


def _written(error: OSError) -> str:
    if error.errno == errno.ECONNREFUSED:
        return "connection refused"
    if error.errno in (errno.ECONNRESET, errno.EPIPE):
        return "the connection was reset"
    return (error.strerror or str(error)).lower()
