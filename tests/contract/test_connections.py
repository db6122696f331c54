"""Who is connected to a replica past the balancer: one suite over the fake and the sockets of this machine."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest

from rota.adapters.prober.connections import SocketConnections
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.ports.connections import Connections
from rota.testing.connections import FakeConnections
from rota.testing.machine import until

WEB, OTHER = ReplicaId("web-1"), ReplicaId("web-2")


@dataclass
class Site:
    """Two replicas at addresses of their own; ``connect`` is one client more, until the returned call."""

    connections: Connections
    replicas: dict[ReplicaId, Address]
    connect: Callable[[ReplicaId], Awaitable[Callable[[], None]]]

    async def sees(self, **counts: int) -> None:
        wanted = {ReplicaId(name.replace("_", "-")): count for name, count in counts.items()}

        async def seen() -> bool:
            return await self.connections.direct({name: self.replicas[name] for name in wanted}) == wanted

        await until(seen)


@asynccontextmanager
async def fake() -> AsyncIterator[Site]:
    connections = FakeConnections()

    async def connect(replica: ReplicaId) -> Callable[[], None]:
        connections.open[replica] = connections.open.get(replica, 0) + 1

        def leave() -> None:
            connections.open[replica] -= 1

        return leave

    yield Site(connections, {WEB: Address("10.0.0.1", 1), OTHER: Address("10.0.0.2", 1)}, connect)


async def _no_balancer() -> frozenset[int]:
    return frozenset()


@asynccontextmanager
async def sockets(*, both: bool) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        replicas: dict[ReplicaId, Address] = {}
        for name in (WEB, OTHER):
            family = socket.AF_INET6 if both else socket.AF_INET
            line = socket.create_server(("::" if both else "127.0.0.1", 0), family=family, dualstack_ipv6=both)
            server = await asyncio.start_server(_keep, sock=line)
            stack.callback(server.close)
            replicas[name] = Address("127.0.0.1", server.sockets[0].getsockname()[1])

        async def connect(replica: ReplicaId) -> Callable[[], None]:
            _, writer = await asyncio.open_connection(replicas[replica].host, replicas[replica].port)
            stack.callback(writer.close)
            return writer.close

        yield Site(SocketConnections(lambda _: None, _no_balancer), replicas, connect)


async def _keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


@pytest.fixture(params=["fake", "sockets", "sockets for both families"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    makers = {"fake": fake(), "sockets": sockets(both=False), "sockets for both families": sockets(both=True)}
    async with makers[request.param] as made:
        yield made


@pytest.mark.feature("V5")
async def test_each_connection_counts_for_its_replica_until_it_ends(site: Site) -> None:
    await site.sees(web_1=0, web_2=0)
    leave = await site.connect(WEB)
    await site.connect(WEB)
    await site.connect(OTHER)
    await site.sees(web_1=2, web_2=1)
    leave()
    await site.sees(web_1=1, web_2=1)
    await site.sees(web_2=1)


async def test_of_nobody_there_is_nothing_to_tell(site: Site) -> None:
    assert await site.connections.direct({}) == {}
