"""What every view of DNS does: one suite over the fake, rota's own names, and a zone on BIND and on Knot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from rota.adapters.dns.internal import InternalDns
from rota.adapters.dns.outside import ZoneDns
from rota.core.names import ReplicaId
from rota.core.observation import Address, DnsEntry, ObservedDns
from rota.ports.dns import Dns
from rota.testing.dns import FakeDns
from rota.testing.hosted import SHORTEST_TTL, hosted_zone
from rota.testing.machine import until
from rota.testing.zones import ZONE, running_zone

HOST = f"web.{ZONE}"
HOSTS = frozenset({HOST, "web.localhost"})


class NobodyToTell:
    async def load(self, version: int) -> None:
        pass


@pytest.fixture(params=["fake", "internal", "bind", "knot", "hosted"])
async def view(request: pytest.FixtureRequest, component: Callable[[str], Path], tmp_path: Path) -> AsyncIterator[Dns]:
    if request.param == "fake":
        yield FakeDns(ZONE)
    elif request.param == "internal":
        internal = InternalDns(tmp_path / "nameserver" / "table.json", NobodyToTell())
        await internal.open()
        yield internal
    elif request.param == "hosted":
        with hosted_zone() as server:
            made = ZoneDns(server.settings(), "owner-1")
            made.open()
            try:
                yield made
            finally:
                await made.close()
    else:
        async with running_zone(request.param, component(request.param)) as zone:
            made = ZoneDns(zone.settings(), "owner-1")
            made.open()
            try:
                yield made
            finally:
                await made.close()


def entry(number: int, host: str = "", app: str = "web") -> DnsEntry:
    return DnsEntry(ReplicaId(f"{app}-{number}"), number, 1, Address(host or f"10.0.0.{number}", 20000 + number), HOSTS)


async def seen(view: Dns, app: str = "web") -> ObservedDns:
    """Once it has been read."""

    async def answering() -> ObservedDns | None:
        found = await view.observe(app, HOSTS)
        return found if found is not None and found.answering else None

    found: ObservedDns = await until(answering)
    return found


async def addresses(view: Dns, app: str = "web") -> dict[str, str]:
    return {name: shown.address.host for name, shown in (await seen(view, app)).published.items()}


@pytest.mark.feature("V5")
async def test_what_is_published_is_seen_until_it_is_withdrawn(view: Dns) -> None:
    assert (await seen(view)).published == {}
    await view.publish("web", entry(1))
    await view.publish("web", entry(2))
    shown = await seen(view)
    assert await addresses(view) == {"web-1": "10.0.0.1", "web-2": "10.0.0.2"}
    assert {one.hosts for one in shown.published.values()} == {shown.hosts or frozenset()}
    assert 1 <= shown.ttl <= SHORTEST_TTL
    await view.withdraw("web", ReplicaId("web-1"))
    assert await addresses(view) == {"web-2": "10.0.0.2"}
    await view.withdraw("web", ReplicaId("web-2"))
    assert await addresses(view) == {}


async def test_each_call_may_be_made_again(view: Dns) -> None:
    await seen(view)
    for _ in range(2):
        await view.publish("web", entry(1))
    assert await addresses(view) == {"web-1": "10.0.0.1"}
    for _ in range(2):
        await view.withdraw("web", ReplicaId("web-1"))
    assert await addresses(view) == {}
    await view.withdraw("web", ReplicaId("web-77"))


async def test_a_replica_has_the_address_that_was_given_last(view: Dns) -> None:
    await seen(view)
    await view.publish("web", entry(1))
    await view.publish("web", entry(1, "10.0.0.9"))
    assert await addresses(view) == {"web-1": "10.0.0.9"}


async def test_replicas_may_share_an_address(view: Dns) -> None:
    await seen(view)
    await view.publish("web", entry(1, "10.0.0.1"))
    await view.publish("web", entry(2, "10.0.0.1"))
    await view.withdraw("web", ReplicaId("web-1"))
    shown = await seen(view)
    assert list(shown.published) == ["web-2"]
    assert shown.published[ReplicaId("web-2")].hosts == (shown.hosts or frozenset())


async def test_apps_have_nothing_to_do_with_each_other(view: Dns) -> None:
    await seen(view)
    await view.publish("web", entry(1))
    others = frozenset({f"other.{ZONE}"})

    async def answering() -> ObservedDns | None:
        found = await view.observe("other", others)
        return found if found is not None and found.answering else None

    found: ObservedDns = await until(answering)
    assert found.published == {}
