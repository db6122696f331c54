"""A daemon that dies between any two writes, and the next one: HAProxy serves on, and is taken over."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from rota.adapters.balancer.haproxy import adoption, disk
from rota.adapters.balancer.haproxy.balancer import HaproxyBalancer
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import ServerState
from rota.testing.haproxy import APP, HOST, Rig, free_port, pool, until
from rota.testing.web import Load, WebServer

A, B = ReplicaId("hello-1"), ReplicaId("hello-2")


CLOCKS = 0.01
"""Seconds by which a timer of the loop may be early by rota's clock."""

ACTIONS = 31
"""Writes and commands that `change` consists of."""


class Died(BaseException):
    """The daemon's end at a chosen point; nothing may catch it."""


def die_after(monkeypatch: pytest.MonkeyPatch, actions: int) -> None:
    """Lets the daemon carry out so many writes to disk and commands to HAProxy."""
    done = 0

    def count() -> None:
        nonlocal done
        if done >= actions:
            raise Died
        done += 1

    replace_file, tell, reload = disk._replace, Haproxy.tell, Haproxy.reload

    def counted_replace(*args: object) -> object:
        count()
        return replace_file(*args)  # type: ignore[arg-type]

    async def counted_tell(self: Haproxy, *args: object, **more: object) -> object:
        count()
        return await tell(self, *args, **more)  # type: ignore[arg-type]

    async def counted_reload(self: Haproxy) -> object:
        count()
        return await reload(self)

    monkeypatch.setattr(disk, "_replace", counted_replace)
    monkeypatch.setattr(Haproxy, "tell", counted_tell)
    monkeypatch.setattr(Haproxy, "reload", counted_reload)


async def change(balancer: HaproxyBalancer, new: WebServer) -> None:
    """A release with another check: every kind of change once."""
    other = pool("/health/2")
    await balancer.prepare(other, (HOST, "second.localhost"))
    await balancer.enable(B, APP, other.name, new.address)
    await balancer.route(APP, {other.name: 100})
    await balancer.drain(A)
    await balancer.disable(A)
    await balancer.remove(A)


@pytest.mark.parametrize("actions", range(ACTIONS + 1))
async def test_a_daemon_that_dies_anywhere_is_followed_by_one_that_ends_the_change(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, actions: int
) -> None:
    await rig.ready(1, pool())
    new = await rig.web("hello-2")
    with monkeypatch.context() as patched:
        die_after(patched, actions)
        try:
            await change(rig.balancer, new)
            assert actions == ACTIONS
        except Died:
            assert actions < ACTIONS
            assert (await rig.client().ask())[0] == 200
    if actions % 2:
        os.kill(rig.launcher.pid, signal.SIGKILL)

        async def serves() -> bool:
            return (await rig.client().ask())[0] == 200

        await until(serves, 3)
    balancer = await rig.another_daemon()
    assert (await rig.client().ask())[0] == 200
    await change(balancer, new)
    seen = await rig.see()
    assert {name: server.state for name, server in seen.servers.items()} == {B: ServerState.READY}
    assert seen.routes == {pool("/health/2").name: 100}
    assert (await rig.client("second.localhost").ask()) == (200, "hello-2")


async def test_a_new_daemon_sees_what_the_old_one_did_and_disturbs_nobody(rig: Rig) -> None:
    await rig.ready(3, pool())
    await rig.balancer.drain(B)
    before = await rig.see()
    async with Load(rig.port, HOST).running() as load:
        await rig.another_daemon()
        after = await rig.see()
        await load.further(30)
    assert load.lost == 0
    assert (after.process, after.backends, after.hosts, after.routes) == (
        before.process,
        before.backends,
        before.hosts,
        before.routes,
    )
    assert {n: s.state for n, s in after.servers.items()} == {n: s.state for n, s in before.servers.items()}


async def test_a_daemon_with_another_address_moves_haproxy_there(rig: Rig) -> None:
    await rig.ready(1, pool())
    rig.port = free_port()
    rig.settings = replace(rig.settings, binds=(f"127.0.0.1:{rig.port}",))
    await rig.another_daemon()
    assert await rig.client().ask() == (200, "hello-1")


async def test_changes_that_arrive_together_are_one_reload(rig: Rig) -> None:
    await rig.ready(1, pool())
    first = (await rig.see()).process
    await asyncio.gather(*(rig.balancer.prepare(pool(app=f"app{n}"), (f"app{n}.localhost",)) for n in range(8)))
    seen = await rig.balancer.observe()
    assert len(seen) == 9
    assert {row.process for row in seen[APP].rows} == {first, seen[APP].process}
    assert all(len(seen[f"app{n}"].backends) == 1 for n in range(8))


async def test_a_reload_keeps_drained_and_down_servers_so(rig: Rig) -> None:
    servers = await rig.ready(3, pool(interval=0.1))
    await rig.balancer.drain(A)
    servers[1].healthy = False
    await until(lambda: rig.down(B), 5)
    await rig.balancer.prepare(pool("/other"), (HOST,))
    seen = (await rig.see()).servers
    assert seen[A].state is ServerState.DRAIN
    assert not seen[B].up
    assert {(await rig.client().ask())[1] for _ in range(6)} == {"hello-3"}


async def test_backends_that_nobody_uses_go_at_the_next_reload(rig: Rig) -> None:
    old, new = pool(), pool("/health/2")
    await rig.ready(1, old)
    await rig.balancer.prepare(new, (HOST,))
    await rig.balancer.route(APP, {new.name: 100})
    await rig.balancer.disable(A)
    await rig.balancer.prepare(pool("/health/3"), (HOST,))
    assert (await rig.see()).backends == {new.name, pool("/health/3").name}


async def test_a_reload_is_not_before_the_time_that_was_told(rig: Rig) -> None:
    await rig.ready(0, pool())
    first = rig.balancer.reloads()
    assert first.apart == rig.settings.reload_interval
    await rig.balancer.prepare(pool("/health/2"), (HOST,))
    assert rig.clock.now() >= first.not_before - CLOCKS
    second = rig.balancer.reloads()
    assert second.not_before >= first.not_before + first.apart - CLOCKS
    assert second.seconds > 0


async def test_an_address_that_is_taken_is_named(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adoption, "_START_DEADLINE", 0.5)
    second = Rig(rig.settings.directory / "second", rig.binary)
    await rig.ready(0, pool())
    port = free_port()
    blocker = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    second.settings = type(second.settings)(second.settings.directory, (f"127.0.0.1:{port}",), maxconn=100)
    second.balancer = HaproxyBalancer(second.settings, rig.binary, second.launcher, second.clock)
    try:
        with pytest.raises(StepFailed, match=f"another program listens on 127.0.0.1:{port}"):
            await second.balancer.start()
    finally:
        await second.close()
        blocker.close()
