"""What every Balancer does: one suite over the fake and over HAProxy, the system's and the bundled one."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address, ServerState
from rota.core.tcp import Listener
from rota.ports.balancer import Balancer
from rota.testing.balancer import FakeBalancer
from rota.testing.haproxy import APP, HOST, Rig, free_port, pool, running_rig, until

A, B = ReplicaId("hello-1"), ReplicaId("hello-2")
HERE, THERE = Address("127.0.0.1", 20001), Address("127.0.0.1", 20002)
POOL, OTHER = pool(None, interval=60), pool("/other", interval=60)


class Subject:
    """A balancer and how its process is killed and comes back."""

    def __init__(self, balancer: Balancer, kill_and_wait: Callable[[], Awaitable[None]]) -> None:
        self.balancer = balancer
        self.kill_and_wait = kill_and_wait

    async def states(self) -> dict[ReplicaId, ServerState]:
        seen = (await self.balancer.observe())[APP]
        return {replica: server.state for replica, server in seen.servers.items()}

    async def weights(self) -> dict[ReplicaId, int]:
        seen = (await self.balancer.observe())[APP]
        return {replica: server.weight for replica, server in seen.servers.items()}

    async def ready(self, *replicas: ReplicaId) -> None:
        await self.balancer.prepare(POOL, (HOST,))
        for replica in replicas:
            await self.balancer.enable(replica, APP, POOL.name, HERE)


@pytest.fixture(params=["fake", "system", "bundled"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "fake":
        yield _over_the_fake()
        return
    async with running_rig(request.param) as rig:
        yield _over(rig)


def _over_the_fake() -> Subject:
    fake = FakeBalancer()

    async def kill_and_wait() -> None:
        fake.lose(1.0)
        assert (await fake.observe())[APP].process is None
        fake.restore(2.0)

    return Subject(fake, kill_and_wait)


def _over(rig: Rig) -> Subject:
    async def kill_and_wait() -> None:
        before = (await rig.see()).process

        async def another() -> bool:
            return (await rig.see()).process not in (None, before)

        os.kill(rig.launcher.pid, signal.SIGKILL)
        await until(another, 5)

    return Subject(rig.balancer, kill_and_wait)


async def test_nothing_is_there_at_first(subject: Subject) -> None:
    assert await subject.balancer.observe() == {}
    assert await subject.balancer.answering() is not None


async def test_a_prepared_app_has_its_backend_hosts_and_route(subject: Subject) -> None:
    await subject.ready()
    seen = (await subject.balancer.observe())[APP]
    assert seen.process == await subject.balancer.answering() is not None
    assert seen.backends == {POOL.name}
    assert seen.hosts == {HOST}
    assert seen.routes == {POOL.name: 100}
    assert not seen.servers
    assert not seen.gaps


async def test_a_second_backend_moves_no_traffic_until_it_is_routed(subject: Subject) -> None:
    await subject.ready()
    await subject.balancer.prepare(OTHER, (HOST, "more.example"))
    seen = (await subject.balancer.observe())[APP]
    assert seen.backends == {POOL.name, OTHER.name}
    assert seen.hosts == {HOST, "more.example"}
    assert seen.routes == {POOL.name: 100}
    await subject.balancer.route(APP, {POOL.name: 30, OTHER.name: 70})
    assert (await subject.balancer.observe())[APP].routes == {POOL.name: 30, OTHER.name: 70}
    await subject.balancer.route(APP, {POOL.name: 0, OTHER.name: 100})
    assert (await subject.balancer.observe())[APP].routes == {OTHER.name: 100}


async def test_each_new_backend_shows_how_long_a_reload_takes(subject: Subject) -> None:
    assert subject.balancer.reloads().of == 0
    await subject.ready()
    await subject.balancer.prepare(POOL, (HOST, "more.example"))
    assert subject.balancer.reloads().of == 1
    await subject.balancer.prepare(OTHER, (HOST,))
    assert subject.balancer.reloads().of == 2


async def test_a_server_goes_through_its_life(subject: Subject) -> None:
    await subject.ready(A, B)
    assert await subject.states() == {A: ServerState.READY, B: ServerState.READY}
    assert (await subject.balancer.observe())[APP].servers[A].up
    await subject.balancer.drain(A)
    assert await subject.states() == {A: ServerState.DRAIN, B: ServerState.READY}
    await subject.balancer.disable(A)
    assert await subject.states() == {A: ServerState.MAINT, B: ServerState.READY}
    assert not (await subject.balancer.observe())[APP].servers[A].up
    await subject.balancer.remove(A)
    assert await subject.states() == {B: ServerState.READY}


async def test_a_server_has_the_share_that_it_was_given_whatever_becomes_of_haproxy(subject: Subject) -> None:
    await subject.ready(A)
    await subject.balancer.enable(B, APP, POOL.name, THERE, weight=10)
    assert await subject.weights() == {A: 100, B: 10}
    await subject.balancer.weigh(B, 30)
    assert await subject.weights() == {A: 100, B: 30}
    await subject.kill_and_wait()
    assert await subject.weights() == {A: 100, B: 30}
    await subject.balancer.prepare(OTHER, (HOST,))
    assert await subject.weights() == {A: 100, B: 30}
    await subject.balancer.enable(B, APP, POOL.name, THERE, weight=40)
    assert await subject.weights() == {A: 100, B: 40}
    await subject.balancer.weigh(ReplicaId("hello-9"), 10)


async def test_every_call_may_be_repeated(subject: Subject) -> None:
    balancer = subject.balancer
    for _ in range(2):
        await subject.ready(A)
        await balancer.route(APP, {POOL.name: 100})
    for call in (balancer.drain, balancer.disable, balancer.cut, balancer.remove):
        await call(A)
        await call(A)
    await balancer.unroute(APP)
    await balancer.unroute(APP)
    assert await balancer.observe() == {}


async def test_a_drained_or_disabled_server_is_enabled_again(subject: Subject) -> None:
    await subject.ready(A)
    for leave in (subject.balancer.drain, subject.balancer.disable):
        await leave(A)
        await subject.balancer.enable(A, APP, POOL.name, THERE)
        assert await subject.states() == {A: ServerState.READY}
        assert (await subject.balancer.observe())[APP].servers[A].up


async def test_calls_on_a_server_that_is_not_there_are_no_error(subject: Subject) -> None:
    await subject.ready()
    for call in (subject.balancer.drain, subject.balancer.disable, subject.balancer.cut, subject.balancer.remove):
        await call(A)
    assert await subject.states() == {}


async def test_a_server_in_rotation_is_not_removed(subject: Subject) -> None:
    await subject.ready(A)
    with pytest.raises(StepFailed, match=A):
        await subject.balancer.remove(A)


async def test_what_was_not_prepared_is_refused(subject: Subject) -> None:
    with pytest.raises(StepFailed):
        await subject.balancer.enable(A, APP, POOL.name, HERE)
    with pytest.raises(StepFailed):
        await subject.balancer.route(APP, {POOL.name: 100})
    await subject.ready()
    with pytest.raises(StepFailed):
        await subject.balancer.enable(A, APP, OTHER.name, HERE)
    with pytest.raises(StepFailed):
        await subject.balancer.route(APP, {OTHER.name: 100})
    with pytest.raises(StepFailed):
        await subject.balancer.route(APP, {POOL.name: 0})


async def test_a_host_of_another_app_is_refused(subject: Subject) -> None:
    await subject.ready()
    with pytest.raises(StepFailed, match=HOST):
        await subject.balancer.prepare(pool(app="second"), (HOST,))
    assert set(await subject.balancer.observe()) == {APP}


@pytest.fixture
def listener() -> Listener:
    return Listener(free_port())


async def test_an_app_listens_where_it_is_to_and_nowhere_else(subject: Subject, listener: Listener) -> None:
    await subject.ready()
    assert (await subject.balancer.observe())[APP].listeners == frozenset()
    other = Listener(free_port(), names=("db.example.org",))
    for wanted in ((listener,), (listener, other), (other,), ()):
        await subject.balancer.prepare(POOL, (HOST,), wanted)
        assert (await subject.balancer.observe())[APP].listeners == frozenset(wanted)


async def test_a_listener_of_another_app_is_refused(subject: Subject, listener: Listener) -> None:
    await subject.balancer.prepare(POOL, (HOST,), (listener,))
    second = pool(None, app="second", interval=60)
    with pytest.raises(StepFailed, match=f"port {listener.port}"):
        await subject.balancer.prepare(second, ("second.localhost",), (listener,))
    assert set(await subject.balancer.observe()) == {APP}
    assert await subject.balancer.refusal(APP, [listener]) == ""
    await subject.balancer.unroute(APP)
    await subject.balancer.prepare(second, ("second.localhost",), (listener,))


async def test_a_server_has_its_services_in_all_that_is_said_of_it(subject: Subject, listener: Listener) -> None:
    backend = replace(POOL, tcp=((listener.port, "v2", 60.0),))
    await subject.balancer.prepare(backend, (HOST,), (listener,))
    await subject.balancer.enable(A, APP, backend.name, HERE, 40, ((listener.port, 20003),))
    seen = (await subject.balancer.observe())[APP]
    assert set(seen.servers) == {A}
    assert (seen.servers[A].backend, seen.servers[A].weight, seen.servers[A].open) == (backend.name, 40, 0)
    await subject.balancer.weigh(A, 50)
    await subject.kill_and_wait()
    seen = (await subject.balancer.observe())[APP]
    assert (seen.listeners, await subject.weights()) == ({listener}, {A: 50})
    assert await subject.states() == {A: ServerState.READY}
    for call, state in ((subject.balancer.drain, ServerState.DRAIN), (subject.balancer.disable, ServerState.MAINT)):
        await call(A)
        assert await subject.states() == {A: state}
    await subject.balancer.remove(A)
    assert await subject.states() == {}


async def test_an_unrouted_app_leaves_nothing_and_the_others_stay(subject: Subject) -> None:
    await subject.ready(A)
    second = pool(None, app="second", interval=60)
    await subject.balancer.prepare(second, ("second.localhost",))
    await subject.balancer.enable(ReplicaId("second-1"), "second", second.name, THERE)
    await subject.balancer.unroute(APP)
    seen = await subject.balancer.observe()
    assert set(seen) == {"second"}
    assert set(seen["second"].servers) == {"second-1"}
    await subject.ready(B)
    assert await subject.states() == {B: ServerState.READY}


async def test_a_killed_process_comes_back_with_what_the_file_has(subject: Subject) -> None:
    await subject.ready(A, B)
    woken: list[str] = []
    subject.balancer.on_change(woken.append)
    await subject.balancer.disable(B)
    before = (await subject.balancer.observe())[APP].process
    await subject.kill_and_wait()
    seen = (await subject.balancer.observe())[APP]
    assert seen.process not in (None, before)
    assert await subject.states() == {A: ServerState.READY}
    assert seen.routes == {POOL.name: 100}
    assert len(seen.gaps) == 1
    assert APP in woken


async def test_maintenance_is_seen_and_leaves_the_routes_alone(subject: Subject) -> None:
    await subject.ready(A)
    before = (await subject.balancer.observe())[APP]
    for on in (True, True, False):
        await subject.balancer.maintain(APP, on)
        seen = (await subject.balancer.observe())[APP]
        assert (seen.maintenance, seen.routes, seen.hosts) == (on, before.routes, before.hosts)
    with pytest.raises(StepFailed, match="no app"):
        await subject.balancer.maintain("nobody", True)
