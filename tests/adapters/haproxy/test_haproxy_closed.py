"""What users see when no replica answers them, through a real HAProxy: maintenance, and pages of the app's own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rota.core.names import ReplicaId
from rota.testing.haproxy import APP, HOST, Rig, pool, until

A = ReplicaId("hello-1")
OWN = "<h1>Zurück in 5 Minuten</h1>\n<p>'\"; \\ %[src] $HOME</p>\n"
STICKY = pool(interval=60, cookie="seat")
WITH_PAGES = replace(STICKY, pages=((502, "<p>Broken</p>"), (503, OWN), (504, "<p>Slow</p>")), response_timeout=0.3)


async def test_users_are_kept_out_at_once_and_let_in_again(rig: Rig) -> None:
    await rig.ready(2, STICKY)
    client = rig.client()
    assert (await client.ask(keep=True))[0] == 200
    client.cookie = client.given[0].partition(";")[0]
    await rig.balancer.maintain(APP, True)
    status, page = await client.ask(keep=True)  # on a connection that was there before
    assert (status, "Back soon" in page) == (503, True)
    assert client.head["retry-after"] == "120"
    assert client.head["content-type"] == "text/html; charset=utf-8"
    assert client.head["cache-control"] == "no-store"
    assert not (await rig.see()).servers[A].open
    await rig.balancer.maintain(APP, False)
    assert (await client.ask())[0] == 200


async def test_what_is_answered_in_maintenance_is_in_no_row(rig: Rig) -> None:
    await rig.ready(1, STICKY)
    await rig.balancer.maintain(APP, True)
    before = (await rig.see()).rows
    assert (await rig.client().ask())[0] == 503
    assert (await rig.see()).rows == before


async def test_maintenance_outlives_the_daemon_a_reload_and_a_rollout_beneath(rig: Rig) -> None:
    await rig.ready(1, STICKY)
    await rig.balancer.maintain(APP, True)
    async with rig.load() as load:
        await rig.another_daemon()
        other = pool("/health/other", interval=60)
        await rig.balancer.prepare(other, (HOST,))
        server = await rig.web("hello-2")
        await rig.balancer.enable(ReplicaId(server.name), APP, other.name, server.address)
        await rig.balancer.route(APP, {other.name: 1})
        await rig.balancer.disable(A)
        await load.further(10)
    assert {status for status, _ in load.outcomes} == {503}
    assert (await rig.see()).maintenance
    await rig.balancer.maintain(APP, False)
    assert await rig.client().ask() == (200, "hello-2")


async def test_the_app_s_own_page_is_shown_as_it_is(rig: Rig) -> None:
    await rig.ready(1, WITH_PAGES)
    await rig.balancer.maintain(APP, True)
    client = rig.client()
    assert await client.ask() == (503, OWN)
    assert client.head["retry-after"] == "120"


@pytest.mark.parametrize(
    ("path", "status", "page"), [("/empty", 502, "<p>Broken</p>"), ("/slow/2", 504, "<p>Slow</p>"), ("/", 503, OWN)]
)
async def test_where_no_replica_answers_a_page_of_the_app_does(rig: Rig, path: str, status: int, page: str) -> None:
    await rig.ready(1, WITH_PAGES)
    if status == 503:
        await rig.servers[0].stop()
        await rig.balancer.disable(A)
        await until(lambda: rig.idle(A), 5)
    client = rig.client()
    assert await client.ask(path, "POST") == (status, page)
    assert client.head["content-type"] == "text/html; charset=utf-8"


async def test_an_answer_of_the_app_itself_stays_as_it_is(rig: Rig) -> None:
    await rig.ready(1, WITH_PAGES)
    assert await rig.client().ask("/status/503") == (503, "hello-1")


async def test_pages_are_read_back_by_the_next_daemon(rig: Rig) -> None:
    await rig.ready(1, WITH_PAGES)
    before = (await rig.see()).process
    await rig.another_daemon()
    assert (await rig.see()).backends == {WITH_PAGES.name}
    assert (await rig.see()).process == before
