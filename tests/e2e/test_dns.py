"""Names of replicas on a real server: resolved before, during and after a rolling restart, and without the daemon."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import dns.asyncquery
import dns.exception
import dns.message
import pytest
import pytest_asyncio
from tests.e2e.direct import DirectClient
from tests.e2e.scenario import FULL, Hello, same_on_both
from tests.e2e.site import ServerAt, Site

from rota.testing.server import free_port

pytestmark = [same_on_both, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

TTL = 1.0  # seconds, rota's own
SERVICE = "_http._tcp.hello.rota.internal"


@dataclass(frozen=True)
class Look:
    """One answer: the replicas that it named."""

    at: float
    replicas: frozenset[str]


class Names:
    """The name server of one rota."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def ask(self, name: str, kind: str) -> list[Any]:
        query = dns.message.make_query(name, kind)
        answer = await dns.asyncquery.udp(query, "127.0.0.1", timeout=5, port=self.port)
        return [record for rrset in answer.answer for record in rrset]

    async def places(self) -> frozenset[tuple[str, int]]:
        """Each replica that is named, with its port: processes share an address, containers a port."""
        return frozenset((record.target.labels[0].decode(), record.port) for record in await self.ask(SERVICE, "SRV"))

    async def one_replica(self) -> tuple[str, int]:
        """Where a client goes that takes the first one. It asks twice: a name may have gone between the two."""
        while True:
            first = (await self.ask(SERVICE, "SRV"))[0]
            for record in await self.ask(first.target.to_text(), "A"):
                return record.address, first.port

    async def poll(self, looks: list[Look], over: asyncio.Event) -> None:
        """50 times a second, until it is over."""
        while not over.is_set():
            asked_at = time.time()
            looks.append(Look(asked_at, frozenset(replica for replica, _ in await self.places())))
            await asyncio.sleep(0.02)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def names() -> Names:
    return Names(free_port())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(site: Site, names: Names) -> AsyncIterator[Hello]:
    async with ServerAt(site, "--dns", f"127.0.0.1:{names.port}") as server:
        # SIGUSR1 ends it at once: what it has not answered is lost.
        replicas = 5 if FULL or site.name == "process" else 3
        hello = Hello(server, replicas=replicas, stop_signal="SIGUSR1")
        await hello.deploy_ok()
        await server.until(lambda: all_named(hello, names))
        yield hello


async def all_named(app: Hello, names: Names) -> bool:
    return await names.places() == await places_of(app)


async def places_of(app: Hello) -> frozenset[tuple[str, int]]:
    replicas = await app.server.replicas(app.name)
    return frozenset((one["id"], int(one["address"].rpartition(":")[2])) for one in replicas if one["phase"] == "ready")


def moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.feature("V5", "R2", "J3")
async def test_a_replica_is_gone_from_every_answer_its_ttl_before_it_is_stopped(app: Hello, names: Names) -> None:
    before = await app.ready()
    looks: list[Look] = []
    over = asyncio.Event()
    polling = asyncio.create_task(names.poll(looks, over))
    client = DirectClient(names.one_replica, seconds=1.5 * TTL)
    asking = asyncio.create_task(client.run(over))
    rollout = await app.order("restart", "--remove-from-dns", "--parallelism", "2")
    over.set()
    await polling
    await asking
    assert client.lost == []
    assert client.answered > 20
    assert client.reused > 5
    assert rollout["receipt"]["cut"] == 0
    steps = {(step["step"], step["replica"]): moment(step["at"]) for step in rollout["steps"]}
    for replica in before:
        last_named = max(look.at for look in looks if replica in look.replicas)
        noted, disabled = steps["NoteWithdrawn", replica], steps["DisableServer", replica]
        assert disabled >= noted + TTL
        # Rota's own clock may be off the wall clock by a little.
        assert steps["StopReplica", replica] >= last_named + TTL - 0.05, replica
    assert min(len(look.replicas) for look in looks) >= len(before), "an heir is named before its predecessor leaves"
    assert looks[-1].replicas == set(await app.ready())
    stages = [step["step"] for step in rollout["steps"] if step["replica"] == before[0]]
    assert stages[:4] == ["WithdrawRecords", "NoteWithdrawn", "DisableServer", "StopReplica"]


@pytest.mark.feature("J3")
async def test_without_the_flag_the_names_follow_at_once_and_nothing_waits(app: Hello, names: Names) -> None:
    rollout = await app.order("restart")
    assert "NoteWithdrawn" not in {step["step"] for step in rollout["steps"]}
    await app.server.until(lambda: all_named(app, names))


@pytest.mark.feature("J3", "R4")
async def test_names_are_resolved_while_there_is_no_daemon(app: Hello, names: Names) -> None:
    places = await places_of(app)
    await app.server.kill()
    assert await names.places() == places
    app.server.kill_child("nameserver")
    assert await again(names) == places, "the keeper starts it again, with the last table"
    await app.server.start()
    assert await names.places() == places


async def again(names: Names) -> frozenset[tuple[str, int]]:
    async with asyncio.timeout(20):
        while True:
            with suppress(dns.exception.DNSException, OSError):
                return await asyncio.wait_for(names.places(), 0.5)


async def test_the_state_of_dns_is_shown(app: Hello) -> None:
    shown = (await app.server.ok("dns", "ls", "--json")).json
    assert {record["state"] for record in shown["records"]} == {"published"}
    assert {name for record in shown["records"] for name in record["names"]} == {"hello.rota.internal"}
    assert {replica["dns"] for replica in await app.server.replicas(app.name)} == {"published"}
    assert (await app.server.get("/api/v1/server"))["dns"]["pid"]
