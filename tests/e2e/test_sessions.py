"""Users of a sticky app while it is changed under them: each stays with its replica for as long as it comes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio
from tests.e2e.scenario import Hello, nothing_lost, same_on_both
from tests.e2e.site import ServerAt, Site

from rota.testing.web import Client

pytestmark = [same_on_both, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

STICKY = {"sticky": {"cookie": "seat", "max_age": "1h"}, "drain": {"timeout": "60s", "session_timeout": "1s"}}


class User:
    """A browser: it keeps the cookie that it was given and sends it back. ``met`` are the replicas that answered, each
    time another one began to."""

    def __init__(self, app: Hello) -> None:
        self._client = Client(app.server.http_port, app.host)
        self.met: list[str] = []
        self.cookies: list[str] = []

    async def visit(self) -> str:
        status, body = await self._client.ask()
        assert status == 200, (status, body)
        if self._client.given:
            self.cookies.append(self._client.given.pop())
            self._client.cookie = self.cookies[-1].partition(";")[0]
        met = re.search(r"replica (\S+),", body)
        assert met is not None
        if self.met[-1:] != [met[1]]:
            self.met.append(met[1])
        return met[1]

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Five times a second."""
        done = asyncio.Event()

        async def come() -> None:
            while not done.is_set():
                await self.visit()
                await asyncio.sleep(0.2)

        coming = asyncio.create_task(come())
        try:
            yield
        finally:
            done.set()
            await coming


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(site: Site) -> AsyncIterator[Hello]:
    async with ServerAt(site) as server:
        hello = Hello(server, replicas=2, **STICKY)
        await hello.deploy_ok()
        yield hello


async def users_of_each(app: Hello) -> dict[str, User]:
    """One user for each replica, once what a run before this one has left under way is over."""
    await app.rollout_ended()
    found: dict[str, User] = {}
    ready = await app.ready()
    while set(found) != set(ready):
        user = User(app)
        found[await user.visit()] = user
    return found


async def draining(app: Hello, replica: str) -> None:
    async def holds() -> bool:
        phases = {entry["id"]: entry["phase"] for entry in await app.server.replicas(app.name)}
        return phases[replica] == "draining"

    await app.server.until(holds, 60.0)


async def gone(app: Hello, replica: str) -> None:
    async def holds() -> bool:
        return replica not in [entry["id"] for entry in await app.server.replicas(app.name)]

    await app.server.until(holds, 60.0)


@pytest.mark.feature("W4", "J2", "H3")
async def test_nobody_is_moved_by_a_rolling_restart_while_still_coming(app: Hello) -> None:
    users = await users_of_each(app)
    (first, its_user), (second, others) = sorted(users.items())
    async with app.load(rate=100.0) as load, others.coming():
        async with its_user.coming():
            await app.server.ok("restart", app.name, "--detach")
            await draining(app, first)
            for _ in range(10):
                await User(app).visit()  # new users do not hold it
            await asyncio.sleep(2.0)  # twice the time after which it would go, were nobody to come
            assert its_user.met == [first]
        await gone(app, first)
        assert len(its_user.cookies) == 1
        assert await its_user.visit() != first
        assert len(its_user.cookies) == 2, "a cookie of a replica that is gone is exchanged"
        await draining(app, second)
        assert others.met == [second]
        nothing_lost(await load.stop())
    assert (await app.rollout_ended())["phase"] == "succeeded"
    assert others.met == [second]
    assert {"HttpOnly", "SameSite=Lax", "Max-Age=3600"} <= set(others.cookies[0].split("; "))
    await others.visit()
    assert len(others.cookies) == 2
    assert await others.visit() == others.met[-1]


@pytest.mark.feature("W4", "J2")
async def test_sessions_outlive_a_change_of_the_balancers_settings(app: Hello) -> None:
    """It brings a new backend by a reload, into which the replicas move one by one."""
    users = await users_of_each(app)
    (first, its_user), (second, others) = sorted(users.items())
    async with app.load(rate=100.0) as load, others.coming():
        async with its_user.coming():
            await app.deploy_new("--detach", health_check={"interval": "1s"})
            await draining(app, first)
            assert its_user.met == [first]
        await draining(app, second)
        assert others.met == [second]
        nothing_lost(await load.stop())
    ended = await app.rollout_ended()
    assert ended["phase"] == "succeeded"
    assert "RouteApp" in [step["step"] for step in ended["steps"]]
    assert others.met == [second]
    assert len(others.cookies) == 1
    for user in (its_user, others):
        later = await user.visit()
        assert later not in users
        assert [await user.visit() for _ in range(4)] == [later] * 4
        assert len(user.cookies) == 2
