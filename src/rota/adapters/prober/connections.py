"""Who is connected to a replica past HAProxy, by the tables in /proc/PID/net; fulfils the Connections port.

A connection has two ends. The replica's is in the table of its own network namespace, where every client shows with its
address; HAProxy's is in HAProxy's, where the socket's inode tells the owner. What no HAProxy process owns is direct."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from rota.adapters.prober.listeners import held_by, host_of
from rota.core.names import ReplicaId
from rota.core.observation import Address

_ESTABLISHED = "01"  # include/net/tcp_states.h
_MAPPED = "::ffff:"
_FRESH = 0.05  # seconds: a hand-off looks every 10 ms, and a table of thousands takes longer to read than that


@dataclass(frozen=True)
class _Connection:
    local: Address
    remote: Address
    inode: int


class SocketConnections:
    """``namespace_of`` gives a process in a replica's network namespace, None where it shares the machine's, at an
    address of the loopback, or nothing of it is seen from here; ``balancer`` HAProxy's processes, old ones too."""

    def __init__(
        self, namespace_of: Callable[[ReplicaId], int | None], balancer: Callable[[], Awaitable[Collection[int]]]
    ) -> None:
        self._namespace_of = namespace_of
        self._balancer = balancer
        self._seen: tuple[float, Mapping[ReplicaId, Address], Mapping[ReplicaId, int]] = (0.0, {}, {})

    async def direct(self, replicas: Mapping[ReplicaId, Address]) -> Mapping[ReplicaId, int]:
        if not replicas:
            return {}
        now = asyncio.get_running_loop().time()
        until, asked, found = self._seen
        if now >= until or asked != replicas:
            namespaces = {name: self._namespace_of(name) for name in replicas}
            balancer = await self._balancer()
            found = await asyncio.to_thread(_direct, replicas, namespaces, balancer)
            self._seen = (now + _FRESH, dict(replicas), found)
        return found


def _direct(
    replicas: Mapping[ReplicaId, Address], namespaces: Mapping[ReplicaId, int | None], balancer: Collection[int]
) -> dict[ReplicaId, int]:
    found: dict[ReplicaId, int] = {}
    for name, address in replicas.items():
        if namespaces[name] is None and not ipaddress.ip_address(address.host).is_loopback:
            continue  # this machine's own connections at that port are somebody else's
        clients = {one.remote for one in _connections(namespaces[name], address.port) if one.local.port == address.port}
        found[name] = len(clients - _balancers(balancer, address) if clients else clients)
    return found


def _balancers(pids: Collection[int], address: Address) -> set[Address]:
    """HAProxy's own ends of its connections to the replica."""
    ends: set[Address] = set()
    for pid in pids:
        there = [one for one in _connections(pid, address.port) if one.remote == address]
        owned = held_by(frozenset(one.inode for one in there), [pid])
        ends.update(one.local for one in there if one.inode in owned)
    return ends


def _connections(pid: int | None, port: int) -> Iterator[_Connection]:
    """All established ones in that process's network namespace, or in this one's, that have the port at either end;
    nothing of a process that has ended or may not be looked at."""
    mark = f":{port:04X} "
    for table in ("tcp", "tcp6"):
        with (
            suppress(FileNotFoundError, ProcessLookupError, PermissionError),
            open(f"/proc/{pid or 'self'}/net/{table}", encoding="ascii") as lines,
        ):
            for line in lines:
                if mark in line:
                    _, local, remote, state, *rest = line.split()
                    if state == _ESTABLISHED:
                        yield _Connection(_address(local), _address(remote), int(rest[5]))


def _address(text: str) -> Address:
    """A client of a socket for both families comes as ``::ffff:192.0.2.1``."""
    host, _, port = text.rpartition(":")
    return Address(host_of(host).removeprefix(_MAPPED), int(port, 16))
