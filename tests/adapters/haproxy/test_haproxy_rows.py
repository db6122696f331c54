"""The rows of many apps: sorted a piece at a time, so that others run meanwhile, and read for the app that asks."""

from __future__ import annotations

import asyncio

import pytest

from rota.adapters.balancer.haproxy import rows as adapter
from rota.adapters.balancer.haproxy.rows import failing, read_counts, read_rows
from rota.adapters.balancer.haproxy.socket import call
from rota.core.observation import ServerState
from rota.testing.haproxy import Rig, pool, until

EVERYTHING = "show stat -1 7 -1;show servers state;show info"


async def test_each_app_has_its_own_rows_however_they_are_cut(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for app in ("a", "a-b", "c"):
        await rig.ready(2, pool(None, app=app), f"{app}.localhost")
    answer = await call(rig.settings.stats_socket, EVERYTHING)
    for piece in (1, 77, 10_000_000):
        monkeypatch.setattr(adapter, "_PIECE", piece)
        rows = await read_rows(answer)
        for app in ("a", "a-b", "c"):
            reading = rows.of(app)
            assert set(reading.servers) == {f"{app}-1", f"{app}-2"}
            assert set(reading.backends) == {pool(None, app=app).name}
            assert {server.state for server in reading.servers.values()} == {ServerState.READY}
        assert not rows.of("b").servers
        assert {"a", "a-b", "c"} <= set(rows.apps)


async def test_others_run_between_two_pieces(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.ready(2, pool(None))
    answer = await call(rig.settings.stats_socket, EVERYTHING)
    monkeypatch.setattr(adapter, "_PIECE", 500)
    reading, turns = asyncio.ensure_future(read_rows(answer)), 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns >= answer.partition("\nName: ")[0].count("\n") // 3


async def test_a_view_has_the_apps_that_there_are_and_no_other(rig: Rig) -> None:
    await rig.ready(1, pool(None, app="a"), "a.localhost")
    seen = await rig.balancer.observe()
    assert (list(seen), len(seen), "b" in seen, seen.get("_next")) == (["a"], 1, False, None)


async def test_those_that_fail_their_checks_are_picked_out(rig: Rig) -> None:
    (web, _) = await rig.ready(2, pool(interval=0.1))

    async def found() -> set[str]:
        return {name for _, name in await failing(await call(rig.settings.stats_socket, "show servers state"))}

    assert await found() == set()
    web.healthy = False

    async def one_fails() -> bool:
        return await found() == {"hello-1"}

    await until(one_fails, 5)


async def test_half_an_answer_of_an_old_process_is_none(rig: Rig) -> None:
    await rig.ready(1, pool(None))
    whole = await call(rig.settings.stats_socket, "show stat -1 6 -1")
    assert set((await read_counts(whole)).of("hello").servers) == {"hello-1"}
    with pytest.raises(ValueError, match="cut"):
        await read_counts(whole.rstrip()[:-40])
