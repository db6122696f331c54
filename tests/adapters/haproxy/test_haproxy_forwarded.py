"""What an app is told of its user, through a real HAProxy: right for strangers, and behind proxies that are trusted."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rota.testing.haproxy import HOST, Rig, pool, running_rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIES = {
    "X-Forwarded-For": "6.6.6.6",
    "X_Forwarded_For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Prefix": "/admin",
    "X-Real-IP": "6.6.6.6",
    "X-Request-Id": "mine",
    "Forwarded": "for=6.6.6.6",
    "Proxy": "http://evil.example",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["system", "bundled"])
async def strangers(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_rig(request.param) as rig:
        await rig.ready(1, pool(None))
        yield rig


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["system", "bundled"])
async def proxied(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_rig(request.param, trusted=("127.0.0.0/8", "10.0.0.0/8", "2001:db8::/32")) as rig:
        await rig.ready(1, pool(None))
        yield rig


async def told(rig: Rig, headers: dict[str, str], host: str = HOST) -> dict[str, str]:
    """The header fields that reach the app."""
    client = rig.client(host)
    client.headers = headers
    assert (await client.ask())[0] == 200
    lines = [line.partition(": ") for line in rig.servers[0].heads[-1].splitlines()[1:] if line]
    fields = {name: value for name, _, value in lines}
    assert len(fields) == len(lines)
    assert client.head["x-request-id"] == fields["x-request-id"]
    return fields


async def test_what_a_stranger_says_of_himself_is_replaced(strangers: Rig) -> None:
    fields = await told(strangers, LIES, f"{HOST}:9000")
    assert not {"x_forwarded_for", "x-forwarded-prefix", "x-real-ip", "forwarded", "proxy"} & set(fields)
    assert fields["x-forwarded-for"] == "127.0.0.1"
    assert fields["x-forwarded-proto"] == "http"
    assert fields["x-forwarded-host"] == f"{HOST}:9000"
    assert fields["x-forwarded-port"] == str(strangers.port)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", fields["x-request-id"])
    assert fields["x-request-id"] != (await told(strangers, LIES))["x-request-id"]


async def test_an_answer_that_no_app_gave_has_the_id_too(strangers: Rig) -> None:
    client = strangers.client("nobody.localhost")
    assert (await client.ask())[0] == 404
    assert client.head["x-request-id"]


async def test_a_trusted_proxy_is_believed(proxied: Rig) -> None:
    fields = await told(proxied, LIES)
    assert fields["x-forwarded-for"] == "6.6.6.6"
    assert fields["x-forwarded-proto"] == "https"
    assert fields["x-forwarded-host"] == "evil.example"
    assert fields["x-forwarded-port"] == "443"
    assert fields["x-request-id"] == "mine"


@pytest.mark.parametrize(
    ("chain", "user"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7", "192.0.2.7"),
        ("6.6.6.6, 192.0.2.7, 10.1.2.3, 10.9.9.9", "192.0.2.7"),
        ("6.6.6.6, unknown, 10.1.2.3", "10.1.2.3"),
        ("6.6.6.6, unknown", "127.0.0.1"),
        ("10.1.2.3", "10.1.2.3"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:db9::1, 2001:db8::1", "2001:db9::1"),
        ("", "127.0.0.1"),
    ],
)
async def test_the_user_is_the_last_who_is_no_trusted_proxy(proxied: Rig, chain: str, user: str) -> None:
    assert (await told(proxied, {"X-Forwarded-For": chain}))["x-forwarded-for"] == user


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Forwarded-Proto", "javascript"), ("X-Forwarded-Port", "99999"), ("X-Request-Id", "a b"), ("X-Request-Id", "")],
)
async def test_what_makes_no_sense_is_not_believed(proxied: Rig, header: str, value: str) -> None:
    plain, fields = await told(proxied, {}), await told(proxied, {header: value})
    assert fields[header.lower()] != value
    ids = {"x-request-id": ""}
    assert fields | ids == plain | ids


async def test_users_on_one_connection_of_a_proxy_are_told_apart(proxied: Rig) -> None:
    client = proxied.client()
    for user in ("192.0.2.1", "192.0.2.2"):
        client.headers = {"X-Forwarded-For": user}
        await client.ask(keep=True)
        assert f"x-forwarded-for: {user}\r\n" in proxied.servers[0].heads[-1]
    client.headers = {}
    await client.ask()
    assert "x-forwarded-for: 127.0.0.1\r\n" in proxied.servers[0].heads[-1]


async def test_the_user_s_address_chooses_the_replica_behind_a_proxy(proxied: Rig) -> None:
    by_source = pool(None, app="spread", balance="source")
    await proxied.ready(3, by_source, "spread.localhost")
    answered = set()
    for number in range(40):
        client = proxied.client("spread.localhost")
        client.headers = {"X-Forwarded-For": f"192.0.2.{number}"}
        answered.add(await client.ask())
    assert len(answered) == 3
