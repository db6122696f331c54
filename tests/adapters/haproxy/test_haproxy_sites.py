"""Which app a request reaches, through a real HAProxy: by its host, a wildcard, its path, or sent on to a name."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.testing.haproxy import Rig, pool, running_rig

SITES = {
    "whole": ("www.example.org", "example.org > www.example.org"),
    "api": ("www.example.org/api", "www.example.org/api/v2/old", "only.example.org/deep"),
    "v-two": ("www.example.org/api/v2",),
    "wild": ("*.example.org", "*.example.org/wild"),
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["system", "bundled"])
async def sites(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with running_rig(request.param) as rig:
        for app, hosts in SITES.items():
            backend = pool(None, app)
            await rig.balancer.prepare(backend, hosts)
            server = await rig.web(f"{app}-1")
            await rig.balancer.enable(ReplicaId(server.name), app, backend.name, server.address)
        yield rig


@pytest.mark.feature("H10")
@pytest.mark.parametrize(
    ("host", "path", "app"),
    [
        ("www.example.org", "/", "whole"),
        ("WWW.Example.ORG.:8080", "/x", "whole"),
        ("www.example.org.", "/api", "api"),
        ("www.example.org", "/api/", "api"),
        ("www.example.org", "/api?q=/x", "api"),
        ("www.example.org", "/api/v1/x", "api"),
        ("www.example.org", "/api/v2", "v-two"),
        ("www.example.org", "/api/v2/x/y", "v-two"),
        ("www.example.org", "/api/v2/old/x", "api"),
        ("www.example.org", "/apiary", "whole"),
        ("www.example.org", "/API", "whole"),
        ("www.example.org", "//api", "whole"),
        ("www.example.org", "/x?/api/", "whole"),
        ("shop.example.org", "/api", "wild"),
        ("only.example.org", "/deep/er", "api"),
        ("only.example.org", "/", "wild"),
        ("only.example.org", "/wild", "wild"),
    ],
)
async def test_a_request_reaches_the_app_of_its_host_and_path(sites: Rig, host: str, path: str, app: str) -> None:
    assert await sites.client(host).ask(path) == (200, f"{app}-1")


@pytest.mark.parametrize(
    "host", ["example.com", "a.b.example.org", "wexample.org", "example.org.com", "", ".", "[::1]:80"]
)
async def test_a_host_that_nobody_has_is_told_so(sites: Rig, host: str) -> None:
    status, page = await sites.client(host).ask()
    assert (status, "No app has this host name" in page) == (404, True)


@pytest.mark.feature("H10")
@pytest.mark.parametrize(
    ("host", "path", "method", "answer", "location"),
    [
        ("example.org", "/a/b?c=d&e=%20/..//", "GET", 301, "http://www.example.org/a/b?c=d&e=%20/..//"),
        ("Example.org.:8080", "/", "HEAD", 301, "http://www.example.org:8080/"),
        ("example.org", "//evil.example", "GET", 301, "http://www.example.org//evil.example"),
        ("example.org", "/form", "POST", 308, "http://www.example.org/form"),
    ],
)
async def test_an_alias_leads_to_the_canonical_name(
    sites: Rig, host: str, path: str, method: str, answer: int, location: str
) -> None:
    client = sites.client(host)
    assert (await client.ask(path, method))[0] == answer
    assert client.head["location"] == location


async def test_an_alias_sends_nobody_on_who_names_no_path(sites: Rig) -> None:
    assert (await sites.client("example.org").ask("*", "OPTIONS"))[0] == 400


async def test_the_same_site_of_another_app_is_refused(sites: Rig) -> None:
    for theirs in ("www.example.org/api", "*.example.org", "example.org", "www.example.org > x.org"):
        with pytest.raises(StepFailed, match="already leads to"):
            await sites.balancer.prepare(pool(None, "late"), (theirs,))


async def test_hosts_come_and_go_without_a_moment_in_which_they_lead_nowhere(sites: Rig) -> None:
    whole, api = pool(None, "whole"), pool(None, "api")
    async with sites.load("www.example.org") as load:
        for _ in range(5):
            await sites.balancer.prepare(api, (*SITES["api"], "www.example.org/more"))
            await load.further(20)
            await sites.balancer.prepare(whole, (*SITES["whole"], "more.example.org"))
            await sites.balancer.prepare(api, ("elsewhere.example",))
            await load.further(20)
            await sites.balancer.prepare(api, SITES["api"])
    assert load.outcomes.keys() == {(200, "whole-1")}
