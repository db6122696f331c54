"""A rollout that removes records from a real zone, on BIND and on Knot, polled 50 times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import dns.exception
import pytest
from tests.engine.daemon import World, quick

from rota.adapters.dns.rfc2136 import ZoneDns
from rota.core import order as o
from rota.core.names import ReplicaId
from rota.core.rollout import Phase
from rota.core.spec import RolloutOptions
from rota.ports.runtime import StartOrder
from rota.testing.runtime import FakeRuntime
from rota.testing.zones import ZONE, ZoneServer, running_zone

TTL = 1.0  # seconds
OUT_OF_DNS = RolloutOptions(parallelism=2, remove_from_dns=True)


class Watched(FakeRuntime):
    """Says when a replica was told to stop."""

    stopped: dict[str, float]

    async def stop(self, replica: ReplicaId) -> None:
        self.stopped.setdefault(address_of(replica), asyncio.get_running_loop().time())
        await super().stop(replica)


def address_of(replica: str) -> str:
    return f"10.0.0.{replica.rpartition('-')[2]}"


@asynccontextmanager
async def engine(zone: ZoneServer, replicas: int = 5, **settings: object) -> AsyncIterator[World]:
    view = ZoneDns(zone.settings(ttl=TTL, **settings), "owner", look_again=0.2)
    world = World()
    world.runtime = Watched(world.clock)
    world.runtime.stopped = {}

    def host(order: StartOrder) -> str:
        return address_of(order.replica)

    world.runtime.host = host
    world.dns = {ZONE: view}  # type: ignore[dict-item]
    view.open()
    try:
        await world.start()
        await world.order(o.Deploy(spec=quick(replicas=replicas, domains=[{"domain": f"web.{ZONE}"}])))
        await world.until_over()
        await until_named(world, zone)
        yield world
    finally:
        await world.close()
        await view.close()


async def until_named(world: World, zone: ZoneServer) -> None:
    async with asyncio.timeout(20):
        while await zone.texts("web") != sorted(address_of(seen.id) for seen in world.running()):
            await asyncio.sleep(0.02)


async def poll(zone: ZoneServer, answers: list[tuple[float, list[str]]], over: asyncio.Event) -> None:
    while not over.is_set():
        with suppress(OSError, dns.exception.DNSException):  # it may be down
            answers.append((asyncio.get_running_loop().time(), await zone.texts("web")))
        await asyncio.sleep(0.02)


def check(answers: list[tuple[float, list[str]]], world: World) -> None:
    """The moment of each answer is that of its question: what it names may be withdrawn before it comes."""
    assert isinstance(world.runtime, Watched)
    assert all(named for _, named in answers), "an empty answer"
    for address, stopped_at in world.runtime.stopped.items():
        last = max(at for at, named in answers if address in named)
        assert last <= stopped_at - TTL, f"{address} was named {stopped_at - last:.3f} s before it was stopped"


@pytest.mark.feature("V5", "R2")
@pytest.mark.parametrize("kind", ["bind", "knot"])
async def test_addresses_leave_the_zone_a_ttl_before_their_replicas_stop(
    kind: str, component: Callable[[str], Path]
) -> None:
    async with running_zone(kind, component(kind)) as zone, engine(zone) as world:
        answers: list[tuple[float, list[str]]] = []
        over = asyncio.Event()
        polling = asyncio.create_task(poll(zone, answers, over))
        await world.order(o.Restart(policy=OUT_OF_DNS))
        await world.until_over()
        await until_named(world, zone)
        over.set()
        await polling
        assert world.rollout is not None
        assert world.rollout.phase is Phase.SUCCEEDED
        assert len(world.runtime.stopped) == 5  # type: ignore[attr-defined]
        check(answers, world)


@pytest.mark.feature("V5")
@pytest.mark.parametrize("failure", ["block", "warn"])
async def test_the_update_server_goes_down_in_the_middle(failure: str, component: Callable[[str], Path]) -> None:
    async with running_zone("bind", component("bind")) as zone, engine(zone, 3, failure=failure) as world:
        await world.order(o.Restart(policy=RolloutOptions(remove_from_dns=True)))
        assert isinstance(world.runtime, Watched)
        stopped = world.runtime.stopped
        await world.until(lambda: len(stopped) > 0)
        await zone.stop()
        if failure == "warn":
            await world.until_over()
            assert len(stopped) == 3
        else:
            await asyncio.sleep(1.5 * TTL)  # long enough for another hand-off, were nobody waited for
            assert len(stopped) < 3
        await zone.start()
        await world.until_over()
        await until_named(world, zone)
        assert world.rollout is not None
        assert world.rollout.phase is Phase.SUCCEEDED
