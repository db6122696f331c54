"""Zones outside on a real server: a rolling restart of five replicas, BIND's and Knot's answers 50 times a second.
Replicas that are processes share an address: their claims tell them apart; containers have addresses of their own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.scenario import FULL, Hello
from tests.e2e.site import Containers, Processes, ServerAt, Site

from rota.testing.zones import KEY, SECRET, ZONE, ZoneServer, running_zone

TTL = 1.0  # seconds
REPLICAS = 5 if FULL else 3
CLOCKS = 0.05  # seconds that rota's own clock may be off the wall clock


@dataclass
class Answers:
    """What the zone named at each moment: replicas by their claims, and addresses."""

    zone: ZoneServer
    looks: list[tuple[float, frozenset[str], frozenset[str]]] = field(default_factory=list)

    async def look(self) -> tuple[frozenset[str], frozenset[str]]:
        claims = await self.zone.texts("_rota.web", "TXT")
        words = (word for claim in claims for word in claim.replace('"', "").split())
        replicas = frozenset(word.removeprefix("replica=") for word in words if word.startswith("replica="))
        return replicas, frozenset(await self.zone.texts("web"))

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        over = asyncio.Event()

        async def poll() -> None:
            while not over.is_set():
                asked_at = time.time()
                self.looks.append((asked_at, *await self.look()))
                await asyncio.sleep(0.02)

        polling = asyncio.create_task(poll())
        yield
        over.set()
        await polling

    def last_named(self, name: str) -> float:
        return max(at for at, replicas, addresses in self.looks if name in replicas | addresses)


@asynccontextmanager
async def deployed(site: Site, zone: ZoneServer, replicas: int, **keys: Any) -> AsyncIterator[Hello]:
    settings = {"zone": ZONE, "server": f"127.0.0.1:{zone.port}", "key": {"name": KEY, "secret": SECRET}, "ttl": "1s"}
    file = zone.directory / "zones.yaml"
    file.write_text(yaml.safe_dump({"zones": [settings]}))
    file.chmod(0o600)
    async with ServerAt(site, "--dns-zones", str(file)) as server:
        app = Hello(server, replicas=replicas, domains=[{"domain": f"web.{ZONE}"}], **keys)
        await app.deploy_ok()
        await until_named(app, Answers(zone))
        yield app


async def until_named(app: Hello, answers: Answers) -> None:
    async def named() -> bool:
        shown = await app.server.replicas(app.name)
        replicas = frozenset(one["id"] for one in shown)
        addresses = frozenset(one["address"].rpartition(":")[0] for one in shown)
        return await answers.look() == (replicas, addresses)

    await app.server.until(named)


async def restarted(app: Hello, zone: ZoneServer) -> None:
    """Out of DNS one by one, and back; what must hold of every answer meanwhile."""
    before: list[dict[str, Any]] = await app.server.replicas(app.name)
    answers = Answers(zone)
    async with answers.taken():
        rollout = await app.order("restart", "--remove-from-dns", "--parallelism", "2")
        await until_named(app, answers)
    stopped = {step["replica"]: step["at"] for step in rollout["steps"] if step["step"] == "StopReplica"}
    for replica in before:
        stopped_at = datetime.fromisoformat(stopped[replica["id"]]).timestamp()
        assert answers.last_named(replica["id"]) <= stopped_at - TTL + CLOCKS, replica
        host = replica["address"].rpartition(":")[0]
        if len({one["address"].rpartition(":")[0] for one in before}) > 1:
            assert answers.last_named(host) <= stopped_at - TTL + CLOCKS, replica
    assert len(answers.looks) > 50
    assert all(replicas and addresses for _, replicas, addresses in answers.looks), "an empty answer"


@pytest.mark.feature("V5", "R2")
@pytest.mark.parametrize("kind", ["bind", pytest.param("knot", marks=pytest.mark.full)])
async def test_replicas_leave_the_zone_before_they_are_stopped_and_come_back(
    kind: str, component: Callable[[str], Path]
) -> None:
    component("haproxy")
    async with running_zone(kind, component(kind)) as zone, deployed(Processes(), zone, REPLICAS) as app:
        await restarted(app, zone)


@pytest.mark.full
@pytest.mark.feature("V5", "R2")
@pytest.mark.parametrize("kind", ["bind", "knot"])
async def test_addresses_of_containers_leave_the_zone(kind: str, request: pytest.FixtureRequest) -> None:
    component: Callable[[str], Path] = request.getfixturevalue("component")
    component("haproxy")
    site = Containers(request.getfixturevalue("docker_engine"))
    async with running_zone(kind, component(kind)) as zone, deployed(site, zone, 5) as app:
        await restarted(app, zone)


@pytest.mark.full
@pytest.mark.feature("V5", "R4")
async def test_the_update_server_is_away_while_a_real_rollout_wants_it(component: Callable[[str], Path]) -> None:
    """It blocks, as it is told to by default; the records are right once the server is back."""
    component("haproxy")
    async with running_zone("knot", component("knot")) as zone, deployed(Processes(), zone, 2) as app:
        await zone.stop()
        await app.server.ok("restart", app.name, "--remove-from-dns", "--detach")

        async def waits() -> bool:
            shown = (await app.server.get("/api/v1/dns"))["views"]
            return bool(shown[0]["trouble"]) and len(await app.ready()) == 3

        await app.server.until(waits)
        assert {"hello-1", "hello-2"} <= set(await app.ready())
        await zone.start()
        rollout = await app.rollout_ended()
        assert rollout["phase"] == "succeeded"
        await until_named(app, Answers(zone))


@pytest.mark.feature("V5", "R8")
async def test_a_rollout_that_waits_in_vain_gives_up_at_its_progress_deadline(component: Callable[[str], Path]) -> None:
    """Nothing else ends it: its new replica is ready, and the old one may not go before its records."""
    component("haproxy")
    quick = {"boot_timeout": "3s", "drain": {"timeout": "1s"}}
    async with running_zone("bind", component("bind")) as zone, deployed(Processes(), zone, 2, **quick) as app:
        await zone.stop()
        await app.deploy_new("--remove-from-dns", "--progress-deadline", "1s", "--detach")
        given_up = await app.rollout_ended(phase="rolling_back")
        assert (given_up["kind"], given_up["reason"]) == ("deploy", "progress-deadline")
        await zone.start()
        watched = await app.server.cli("rollout", "watch", given_up["id"])
        assert watched.code == 6, watched
        assert "nothing has moved for 1 s" in watched.out
        assert await app.ready() == ["hello-1", "hello-2"]
        await until_named(app, Answers(zone))
