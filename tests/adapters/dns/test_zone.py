"""Records in a real zone: only rota's own are touched, and what others do to them is seen."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rota.adapters.dns.claims import HostState
from rota.adapters.dns.outside import ZoneDns
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address, DnsEntry, ObservedDns
from rota.testing.machine import until
from rota.testing.zones import KEY, ZONE, ZoneServer, running_zone

HOST = f"web.{ZONE}"


@pytest.fixture(params=["bind", "knot"])
async def zone(request: pytest.FixtureRequest, component: Callable[[str], Path]) -> AsyncIterator[ZoneServer]:
    async with running_zone(request.param, component(request.param)) as server:
        yield server


@asynccontextmanager
async def opened(
    server: ZoneServer, owner: str = "one", memory: Path | None = None, **settings: object
) -> AsyncIterator[ZoneDns]:
    made = ZoneDns(server.settings(**settings), owner, look_again=0.1, memory=memory)
    made.open()
    try:
        yield made
    finally:
        await made.close()


def entry(number: int, *hosts: str, address: str = "") -> DnsEntry:
    at = Address(address or f"10.0.0.{number}", 20000 + number)
    return DnsEntry(ReplicaId(f"web-{number}"), number, 1, at, frozenset(hosts or {HOST}))


async def seen(view: ZoneDns, *hosts: str) -> ObservedDns:
    async def answering() -> ObservedDns | None:
        found = await view.observe("web", frozenset(hosts or {HOST}))
        return found if found is not None and found.answering else None

    found: ObservedDns = await until(answering)
    return found


@pytest.mark.feature("V5")
async def test_the_records_are_those_of_the_replicas_and_say_whose_they_are(zone: ZoneServer) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))
        await view.publish("web", entry(2, address="fd00::2"))
        assert await zone.texts("web") == ["10.0.0.1"]
        assert await zone.texts("web", "AAAA") == ["fd00::2"]
        assert (await zone.ask("web")).answer[0].ttl == 1
        texts = await zone.texts("_rota.web", "TXT")
        assert texts[0] == '"rota1" "owner=one" "app=web" "replica=web-1" "address=10.0.0.1:20001" "record=10.0.0.1"'
        await view.withdraw("web", ReplicaId("web-1"))
        await view.withdraw("web", ReplicaId("web-2"))
        assert await zone.texts("web") == await zone.texts("web", "AAAA") == await zone.texts("_rota.web", "TXT") == []


async def test_a_name_that_somebody_else_has_is_left_alone(zone: ZoneServer) -> None:
    names = [f"{name}.{ZONE}" for name in ("foreign", "alias")]
    async with opened(zone) as view:
        await seen(view, *names)
        for name in names:
            with pytest.raises(StepFailed, match="somebody else"):
                await view.publish("web", entry(1, name))
            await until(lambda name=name: not_troubled(view, name))
        await view.withdraw("web", ReplicaId("web-1"))
    assert await zone.texts("foreign") == ["192.0.2.1"]
    assert await zone.texts("_rota.foreign", "TXT") == []


async def not_troubled(view: ZoneDns, name: str) -> bool:
    found = await view.observe("web", frozenset({name}))
    return found is not None and found.answering


async def test_another_rota_s_name_is_left_alone(zone: ZoneServer) -> None:
    async with opened(zone) as view, opened(zone, "two") as other:
        await seen(view)
        await view.publish("web", entry(1))
        await seen(other)
        with pytest.raises(StepFailed, match="another rota server"):
            await other.publish("web", entry(2))
        await other.withdraw("web", ReplicaId("web-1"))
    assert await zone.texts("web") == ["10.0.0.1"]


async def test_a_record_put_beside_ours_is_left_alone(zone: ZoneServer) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))
        await zone.by_hand(("add", "web", 60, "A", "192.0.2.7"), ("add", "web", 60, "A", "10.0.0.2"))
        with pytest.raises(StepFailed, match="has made the record"):
            await view.publish("web", entry(2))
        await seen(view)
        await view.withdraw("web", ReplicaId("web-1"))
    assert await zone.texts("web") == ["10.0.0.2", "192.0.2.7"]


async def test_what_was_taken_out_by_hand_is_seen_and_made_again(zone: ZoneServer) -> None:
    woken: list[str] = []
    async with opened(zone) as view:
        view.on_change(woken.append)
        await seen(view)
        await view.publish("web", entry(1))
        woken.clear()
        await zone.by_hand(("delete", "web", "A"))
        await until(lambda: taken_out(view))  # a wake of the publication's own may still come first
        assert woken
        await view.publish("web", entry(1))
        assert await zone.texts("web") == ["10.0.0.1"]
        assert (await seen(view)).published[ReplicaId("web-1")].hosts == {HOST}


async def test_a_longer_ttl_set_by_hand_is_waited_for_and_set_right(zone: ZoneServer) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))
        await zone.by_hand(("replace", "web", 120, "A", "10.0.0.1"))
        await until(lambda: longer(view))
        assert (await seen(view)).published[ReplicaId("web-1")].hosts == frozenset()
        await view.publish("web", entry(1))
        shown = await seen(view)
        assert shown.published[ReplicaId("web-1")].hosts == {HOST}
        assert shown.ttl == 120, "caches may have what was answered a moment ago"


async def test_a_longer_ttl_that_was_set_right_is_waited_for_by_the_next_daemon_too(
    zone: ZoneServer, tmp_path: Path
) -> None:
    async with opened(zone, memory=tmp_path / "ttls") as view:
        await seen(view)
        await view.publish("web", entry(1))
        await zone.by_hand(("replace", "web", 120, "A", "10.0.0.1"))
        await view.publish("web", entry(1))
    assert (await zone.ask("web")).answer[0].ttl == 1
    async with opened(zone, memory=tmp_path / "ttls") as following:
        assert (await seen(following)).ttl == 120
    (tmp_path / "ttls" / f"{ZONE}.web.json").write_text("{half")
    async with opened(zone, memory=tmp_path / "ttls") as later:
        assert (await seen(later)).ttl == 1, "what cannot be read is no reason to fail"


async def test_a_ttl_that_was_long_is_waited_for_until_caches_are_rid_of_it(zone: ZoneServer) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))
        woken: list[str] = []
        await zone.by_hand(("replace", "web", 2, "A", "10.0.0.1"))
        await view.publish("web", entry(1))
        assert (await zone.ask("web")).answer[0].ttl == 1
        assert (await seen(view)).ttl == 2, "it was read, though only for the repair"
        view.on_change(woken.append)

        async def over() -> bool:
            return bool(woken) and (await seen(view)).ttl == 1

        await until(over)


async def test_what_caches_may_have_is_not_forgotten_when_the_app_gets_another_domain(zone: ZoneServer) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))
        await zone.by_hand(("replace", "web", 120, "A", "10.0.0.1"))
        await view.publish("web", entry(1))
        assert (await seen(view)).ttl == 120
        assert (await seen(view, HOST, f"shop.{ZONE}")).ttl == 120


async def test_a_ttl_beyond_all_bounds_is_not_waited_for(zone: ZoneServer, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))
        await zone.by_hand(("replace", "web", 86400, "A", "10.0.0.1"))
        await until(lambda: taken_out(view))
        assert (await seen(view)).ttl == 300
        assert f"{HOST} has a TTL of 86400 s: rota waits for 300 s of them" in caplog.text


async def test_an_answer_that_nobody_foresaw_does_not_end_the_reading(
    zone: ZoneServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))

        async def nonsense(*_: object) -> HostState:
            raise ValueError("no such thing")

        monkeypatch.setattr(view._zone, "state", nonsense)
        await until(lambda: in_trouble(view))
        monkeypatch.undo()
        await zone.by_hand(("delete", "web", "A"))
        await until(lambda: taken_out(view))


async def in_trouble(view: ZoneDns) -> bool:
    found = await view.observe("web", frozenset({HOST}))
    return found is not None and "cannot be read (ValueError)" in found.trouble


async def taken_out(view: ZoneDns) -> bool:
    return (await seen(view)).published[ReplicaId("web-1")].hosts == frozenset()


async def longer(view: ZoneDns) -> bool:
    return (await seen(view)).ttl == 120


async def test_secondaries_that_are_later_are_waited_for(zone: ZoneServer) -> None:
    async with opened(zone, propagation=10) as view:
        assert (await seen(view)).ttl == 1 + 10


async def test_a_node_s_address_stays_as_long_as_a_replica_is_there(zone: ZoneServer) -> None:
    async with opened(zone, addresses=["203.0.113.7", "2001:db8::7"]) as view:
        await seen(view)
        for number in (1, 2):
            await view.publish("web", entry(number))
        await view.withdraw("web", ReplicaId("web-1"))
        assert (await zone.texts("web"), await zone.texts("web", "AAAA")) == (["203.0.113.7"], ["2001:db8::7"])
        await view.withdraw("web", ReplicaId("web-2"))
        assert (await zone.texts("web"), await zone.texts("web", "AAAA")) == ([], [])


@pytest.mark.feature("V5")
async def test_a_server_that_went_away_is_asked_again(zone: ZoneServer) -> None:
    async with opened(zone) as view:
        await seen(view)
        await view.publish("web", entry(1))
        await zone.stop()
        with pytest.raises(StepFailed, match="cannot be asked"):
            await view.publish("web", entry(2))
        lost = await view.observe("web", frozenset({HOST}))
        assert lost is not None
        assert "cannot be asked" in lost.trouble
        assert list(lost.published) == ["web-1"]
        await zone.start()
        await seen(view)
        await view.publish("web", entry(2))
    assert await zone.texts("web") == ["10.0.0.1", "10.0.0.2"]


WRONG_SECRET = {"name": KEY, "secret": "d3Jvbmc="}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"key": WRONG_SECRET}, "rejects the key|refuses"),
        ({"key": {**WRONG_SECRET, "name": "nobody"}}, "rejects the key|refuses"),
        ({"zone": "elsewhere.test"}, "refuses|not authoritative|requires a TSIG"),
    ],
)
async def test_why_a_server_refuses_is_said(settings: dict[str, object], reason: str, zone: ZoneServer) -> None:
    async with opened(zone, **settings) as view:
        name = f"web.{settings.get('zone', ZONE)}"
        with pytest.raises(StepFailed, match=reason):
            await view.publish("web", entry(1, name))


async def test_a_dry_run_changes_nothing_and_says_what_it_would(
    zone: ZoneServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with opened(zone, dry_run=True) as view:
        await seen(view)
        await view.publish("web", entry(1))
        assert list((await seen(view)).published) == ["web-1"]
        await view.withdraw("web", ReplicaId("web-1"))
        assert (await seen(view)).published == {}
    assert f"dry run: {HOST} would lead to 10.0.0.1 for web-1" in caplog.text
    assert await zone.texts("web") == []


async def test_apps_outside_the_zone_have_no_part_in_it(zone: ZoneServer) -> None:
    async with opened(zone) as view:
        assert await view.observe("web", frozenset({"www.elsewhere.org", f"not{ZONE}"})) is None
