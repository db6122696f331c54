"""A rollout that removes records from a real zone, on BIND and on Knot, polled 50 times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import dns.exception
import pytest
from tests.engine.daemon import World, quick

from rota.adapters.dns.outside import ZoneDns
from rota.core import order as o
from rota.core.names import ReplicaId
from rota.core.observation import ServerState
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


@asynccontextmanager
async def polled(zone: ZoneServer) -> AsyncIterator[list[tuple[float, list[str]]]]:
    """What it answered meanwhile, 50 times a second."""
    answers: list[tuple[float, list[str]]] = []
    over = asyncio.Event()
    polling = asyncio.create_task(poll(zone, answers, over))
    yield answers
    over.set()
    await polling


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
        async with polled(zone) as answers:
            await world.order(o.Restart(policy=OUT_OF_DNS))
            await world.until_over()
            await until_named(world, zone)
        assert world.rollout is not None
        assert world.rollout.phase is Phase.SUCCEEDED
        assert len(world.runtime.stopped) == 5  # type: ignore[attr-defined]
        check(answers, world)


@pytest.mark.feature("V5")
@pytest.mark.parametrize(("kind", "failure"), [("bind", "block"), ("bind", "warn"), ("knot", "block")])
async def test_the_update_server_goes_down_in_the_middle(
    kind: str, failure: str, component: Callable[[str], Path]
) -> None:
    async with running_zone(kind, component(kind)) as zone, engine(zone, 3, failure=failure) as world:
        assert isinstance(world.runtime, Watched)
        stopped = world.runtime.stopped
        async with polled(zone) as answers:
            # The delay is for the server's end, which takes its time on a busy machine.
            await world.order(o.Restart(policy=RolloutOptions(remove_from_dns=True, delay=3.0)))
            await world.until(lambda: len(stopped) > 0)
            await zone.stop()
            if failure == "warn":
                await world.until_over()
                assert len(stopped) == 3
            else:
                await world.until(lambda: is_away(world) and len(in_rotation(world)) > 3)
                assert len(stopped) == 1, "the next one's heir serves, and its hand-off waits"
            await zone.start()
            await world.until_over()
            await until_named(world, zone)
        assert world.rollout is not None
        assert world.rollout.phase is Phase.SUCCEEDED
        assert all(named for _, named in answers), "an empty answer"
        if failure == "block":
            check(answers, world)


def is_away(world: World) -> bool:
    """The zone was asked again in vain, and the engine told."""
    view = world.dns[ZONE]
    assert isinstance(view, ZoneDns)
    return view._apps["web"].failures >= 2


def in_rotation(world: World) -> list[str]:
    servers = [server for app in world.balancer.apps.values() for server in app.servers.values()]
    return [server.replica for server in servers if server.state is ServerState.READY]


@pytest.mark.feature("V5")
@pytest.mark.parametrize("kind", ["bind", "knot"])
async def test_what_somebody_changes_by_hand_is_set_right(kind: str, component: Callable[[str], Path]) -> None:
    async with running_zone(kind, component(kind)) as zone, engine(zone, 2) as world:
        await zone.by_hand(("delete", "web", "A"))
        await until_named(world, zone)
        await zone.by_hand(("delete", "_rota.web", "TXT"), ("delete", "web", "A", address_of(world.running()[0].id)))
        await zone.by_hand(("delete", "web", "A"))
        await until_named(world, zone)
        await zone.by_hand(("replace", "web", 600, "A", "10.0.0.1"))
        await until_named(world, zone)
        async with asyncio.timeout(20):
            while (await zone.ask("web")).answer[0].ttl != TTL:
                await asyncio.sleep(0.02)
