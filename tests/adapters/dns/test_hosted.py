"""Records at a hosted provider by lexicon: the same ownership, without prerequisites, TTLs or promptness to rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from rota.adapters.dns import hosted
from rota.adapters.dns.outside import ZoneDns
from rota.adapters.dns.settings import HostedSettings, read_zones
from rota.core.errors import Missing, StepFailed, UsageError
from rota.core.names import ReplicaId
from rota.core.observation import Address, DnsEntry, ObservedDns
from rota.testing.hosted import SHORTEST_TTL, HostedServer, hosted_zone
from rota.testing.machine import until
from rota.testing.zones import ZONE

HOST = f"web.{ZONE}"


@pytest.fixture
def server() -> Iterator[HostedServer]:
    with hosted_zone() as made:
        yield made


@asynccontextmanager
async def opened(server: HostedServer, owner: str = "one", **settings: object) -> AsyncIterator[ZoneDns]:
    made = ZoneDns(server.settings(**settings), owner, look_again=0.1)
    made.open()
    try:
        yield made
    finally:
        await made.close()


def entry(number: int, address: str = "", host: str = HOST) -> DnsEntry:
    at = Address(address or f"10.0.0.{number}", 20000 + number)
    return DnsEntry(ReplicaId(f"web-{number}"), number, 1, at, frozenset({host}))


async def seen(view: ZoneDns, host: str = HOST) -> ObservedDns:
    async def answering() -> ObservedDns | None:
        found = await view.observe("web", frozenset({host}))
        return found if found is not None and found.answering else None

    found: ObservedDns = await until(answering)
    return found


async def in_trouble(view: ZoneDns) -> str:
    async def troubled() -> str:
        found = await view.observe("web", frozenset({HOST}))
        return found.trouble if found is not None and "not been read" not in found.trouble else ""

    return str(await until(troubled))


@pytest.mark.feature("V5")
async def test_no_name_is_empty_and_no_record_without_its_claim_while_it_changes(server: HostedServer) -> None:
    async with opened(server) as view:
        await seen(view)
        await view.publish("web", entry(1))
        await view.publish("web", entry(1, "10.0.0.9"))
        await view.withdraw("web", ReplicaId("web-1"))
    kinds = [(call, kind, content if kind == "A" else "") for call, kind, content in server.calls]
    assert kinds == [
        *[("create", "TXT", ""), ("create", "A", "10.0.0.1")],
        *[("create", "TXT", ""), ("create", "A", "10.0.0.9"), ("delete", "A", "10.0.0.1"), ("delete", "TXT", "")],
        *[("delete", "A", "10.0.0.9"), ("delete", "TXT", "")],
    ]
    assert server.texts("web") == server.texts("_rota.web", "TXT") == []


async def test_what_is_there_is_read_however_the_provider_writes_it(server: HostedServer) -> None:
    async with opened(server, propagation=40) as view:
        await seen(view)
        await view.publish("web", entry(1, "fd00::1"))
        await view.publish("web", entry(2))
        calls = len(server.calls)
        await view.publish("web", entry(1, "fd00::1"))
        assert len(server.calls) == calls, "nothing is to be done"
        shown = await seen(view)
        assert {one.hosts for one in shown.published.values()} == {frozenset({HOST})}
        assert shown.ttl == SHORTEST_TTL + 40
    (claim,) = [text for text in server.texts("_rota.web", "TXT") if "web-1" in text]
    assert claim == "rota1 owner=one app=web replica=web-1 address=fd00::1:20001 record=fd00::1"


async def test_what_rota_did_not_make_is_left_alone(server: HostedServer) -> None:
    async with opened(server) as view, opened(server, "two") as other:
        for name in ("foreign", "alias"):
            host = f"{name}.{ZONE}"
            await seen(view, host)
            with pytest.raises(StepFailed, match="somebody else"):
                await view.publish("web", entry(1, host=host))
        await seen(view)
        await view.publish("web", entry(1))
        await seen(other)
        with pytest.raises(StepFailed, match="another rota server"):
            await other.publish("web", entry(2))
        await other.withdraw("web", ReplicaId("web-1"))
    assert server.texts("foreign") == ["192.0.2.1"]
    assert server.texts("web") == ["10.0.0.1"]


async def test_a_provider_that_refuses_says_why(server: HostedServer) -> None:
    async with opened(server, options={"auth_token": "bad"}) as view:
        assert await in_trouble(view) == f"{ZONE} (rotatest) cannot be used: the token is not known"
        with pytest.raises(StepFailed, match="the token is not known"):
            await view.publish("web", entry(1))


async def test_a_provider_that_hangs_holds_nobody_up_for_ever(
    server: HostedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "PATIENCE", 0.2)
    async with opened(server) as view:
        await seen(view)
        server.answers.clear()
        with pytest.raises(StepFailed, match="does not answer within"):
            await view.publish("web", entry(1))
        with pytest.raises(StepFailed, match="has not answered an earlier call yet"):
            await view.publish("web", entry(1))
        server.answers.set()
        await seen(view)
        await view.publish("web", entry(1))
        assert server.texts("web") == ["10.0.0.1"]


def test_a_provider_that_is_not_there_is_named() -> None:
    settings = HostedSettings.model_validate({"zone": ZONE, "provider": "nobody"})
    with pytest.raises(Missing, match="lexicon has no provider 'nobody'"):
        ZoneDns(settings, "one")


def test_the_file_names_a_provider_or_a_server(tmp_path: Path) -> None:
    path = tmp_path / "zones.yaml"

    def written(**zone: object) -> Path:
        path.write_text(yaml.safe_dump({"zones": [{"zone": ZONE, **zone}]}))
        path.chmod(0o600)
        return path

    (zone,) = read_zones(written(provider="gandi", options={"auth_token": "secret"}, propagation="2m"))
    assert isinstance(zone, HostedSettings)
    assert (zone.propagation, zone.ttl) == (120.0, 30)
    assert "secret" not in repr(zone)
    for wrong, said in (
        ({"provider": "No Name"}, "zones.0.provider"),
        ({"provider": "gandi", "server": "192.0.2.1"}, "zones.0.server"),
        ({}, "zones.0.server: Field required"),
    ):
        with pytest.raises(UsageError) as refused:
            read_zones(written(**wrong))
        assert said in str(refused.value)
