"""TCP connections to the name server: strangers who keep theirs lock nobody of rota's own out."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import dns.message
import pytest

from rota.nameserver.allowance import Allowance, parse_networks
from rota.nameserver.answers import Answers
from rota.nameserver.forwarding import Forwarder
from rota.nameserver.places import KNOWN, KNOWN_EACH, STRANGERS, STRANGERS_EACH, Places
from rota.nameserver.server import Front, listen
from rota.nameserver.table import Table
from rota.testing.server import free_port

OURS = "127.0.1"  # .1, .2, …: clients in rota's own network; every other address of the loopback is a stranger's
QUESTION = dns.message.make_query("rota.internal", "SOA").to_wire()


@asynccontextmanager
async def name_server() -> AsyncIterator[int]:
    port = free_port()
    allowance = Allowance(parse_networks([f"{OURS}.0/24"]))
    answers = Answers(Table.parse(b'{"version": 1, "ttl": 1, "replicas": []}'))
    async with listen(("127.0.0.1", port), Front(answers, Forwarder(Path("/dev/null"), ()), allowance)):
        yield port


class Client:
    """One that keeps its connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0)))

    async def is_answered(self) -> bool:
        try:
            self._writer.write(struct.pack("!H", len(QUESTION)) + QUESTION)
            (length,) = struct.unpack("!H", await self._reader.readexactly(2))
            return len(await self._reader.readexactly(length)) == length
        except (OSError, asyncio.IncompleteReadError):
            return False

    def close(self) -> None:
        self._writer.close()


async def answered(clients: list[Client]) -> int:
    return sum(await asyncio.gather(*(client.is_answered() for client in clients)))


async def test_strangers_that_keep_their_connections_lock_nobody_out() -> None:
    async with name_server() as port:
        strangers = [await Client.connect(f"127.9.{number // 4}.1", port) for number in range(140)]
        assert await answered(strangers) == STRANGERS
        known = [await Client.connect(f"{OURS}.1", port) for _ in range(10)]
        assert await answered(known) == 10
        strangers[0].close()
        for client in [*strangers, *known]:
            client.close()


async def test_one_network_of_strangers_has_a_few_places_and_gets_them_back() -> None:
    async with name_server() as port:
        first = [await Client.connect(f"127.9.9.{number + 1}", port) for number in range(STRANGERS_EACH + 3)]
        assert await answered(first) == STRANGERS_EACH
        other = await Client.connect("127.9.8.1", port)
        assert await other.is_answered()
        for client in [*first, other]:
            client.close()
        again = await Client.connect("127.9.9.1", port)
        async with asyncio.timeout(10):
            while not await again.is_answered():
                again = await Client.connect("127.9.9.1", port)
        again.close()


@pytest.mark.parametrize(
    ("hosts", "most"),
    [
        ([f"{OURS}.1"] * 200, KNOWN_EACH),
        ([f"{OURS}.{number % 250}" for number in range(500)], KNOWN),
        ([f"10.0.{number % 250}.1" for number in range(500)], STRANGERS),
    ],
)
def test_places_are_counted_and_forgotten(hosts: list[str], most: int) -> None:
    places = Places(Allowance(parse_networks([f"{OURS}.0/24"])))
    for _ in range(2):
        taken = [places.place(host) for host in hosts]
        assert sum(place.__enter__() for place in taken) == most
        for place in taken:
            place.__exit__(None, None, None)
    assert not places._taken
