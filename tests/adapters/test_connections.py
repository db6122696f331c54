"""Whose connection it is: HAProxy's own are not direct, and those inside another network namespace are seen."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from rota.adapters.prober.connections import SocketConnections
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.testing.machine import until

WEB = ReplicaId("web-1")
CLIENT = "import socket, sys; line = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); line.recv(1)"
INSIDE = """
import socket, subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server(("127.0.0.1", 8080))
client = socket.create_connection(("127.0.0.1", 8080))
input()
"""


async def sees(connections: SocketConnections, address: Address, count: int) -> None:
    async def seen() -> bool:
        return await connections.direct({WEB: address}) == {WEB: count}

    await until(seen)


async def test_the_balancer_s_own_connections_are_not_direct() -> None:
    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    async with server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        pool, user = [
            await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, str(address.port)) for _ in range(2)
        ]

        async def balancer() -> set[int]:
            return {pool.pid}

        async def nobody() -> set[int]:
            return set()

        await sees(SocketConnections(lambda _: None, nobody), address, 2)
        connections = SocketConnections(lambda _: None, balancer)
        await sees(connections, address, 1)
        user.terminate()
        await user.wait()
        await sees(connections, address, 0)
        assert pool.returncode is None
        pool.terminate()
        await pool.wait()


async def test_of_a_container_whose_processes_are_not_seen_from_here_nothing_is_told() -> None:
    """Those who use the same port of this machine, as HAProxy's users may, are not its own."""

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def nobody() -> set[int]:
        return set()

    server = await asyncio.start_server(keep, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        connections = SocketConnections(lambda _: None, nobody)
        await sees(connections, Address("127.0.0.1", port), 1)
        assert await connections.direct({WEB: Address("10.0.0.2", port)}) == {}
        writer.close()


async def test_connections_in_another_network_namespace_are_seen(component: Callable[[str], Path]) -> None:
    component("root")

    async def nobody() -> set[int]:
        return set()

    inside = await asyncio.create_subprocess_exec(
        "unshare", "--net", sys.executable, "-c", INSIDE, stdin=asyncio.subprocess.PIPE
    )
    try:
        await sees(SocketConnections(lambda _: inside.pid, nobody), Address("127.0.0.1", 8080), 1)
    finally:
        inside.terminate()
        await inside.wait()
    assert await SocketConnections(lambda _: inside.pid, nobody).direct({WEB: Address("127.0.0.1", 8080)}) == {WEB: 0}
