"""What every AccessLog does: one suite over the fake and over HAProxy, the system's and the bundled one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rota.adapters.balancer.haproxy.access import HaproxyAccessLog
from rota.ports.access import AccessLog
from rota.testing.access import FakeAccessLog
from rota.testing.haproxy import pool, running_rig, until

Ask = Callable[[str, str], Awaitable[object]]


@pytest.fixture(params=["fake", "system", "bundled"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[tuple[AccessLog, Ask]]:
    """A log, and how a user of the app ``a`` or ``b`` makes a request for a path."""
    if request.param == "fake":
        fake = FakeAccessLog()
        yield fake, fake.add
        return
    async with running_rig(request.param) as rig:
        for app in ("a", "b"):
            await rig.ready(1, pool(None, app=app), f"{app}.localhost")
        yield HaproxyAccessLog(rig.settings.directory), lambda app, path: rig.client(f"{app}.localhost").ask(path)


async def paths(log: AccessLog, app: str, lines: int) -> list[str]:
    return [str(entry["path"]) for entry in await log.tail(app, lines)]


async def test_the_last_requests_of_one_app_are_told(subject: tuple[AccessLog, Ask]) -> None:
    log, ask = subject
    for app, path in (("a", "/1"), ("b", "/2"), ("a", "/3"), ("a", "/4")):
        await ask(app, path)

    async def all_there() -> bool:
        return await paths(log, "a", 10) == ["/1", "/3", "/4"]

    await until(all_there, 5)
    assert await paths(log, "a", 2) == ["/3", "/4"]
    assert await paths(log, "a", 0) == []
    assert await paths(log, "nobody", 5) == []


async def test_new_requests_are_told_as_they_end(subject: tuple[AccessLog, Ask]) -> None:
    log, ask = subject
    await ask("a", "/before")

    async def there() -> bool:
        return await paths(log, "a", 1) == ["/before"]

    await until(there, 5)
    following = log.follow("a", 1)
    async with asyncio.timeout(5):
        assert (await anext(following))["path"] == "/before"
        coming = asyncio.ensure_future(anext(following))
        await asyncio.sleep(0)  # it looks now
        await ask("b", "/other")
        await ask("a", "/after")
        assert (await coming)["path"] == "/after"
    await following.aclose()  # type: ignore[attr-defined]
