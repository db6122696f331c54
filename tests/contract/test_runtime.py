"""What every runtime promises, held by the fake, by real processes and by real containers alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from rota.core.errors import LimitsRefused, StartFailed, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ArtefactState, ObservedReplica, RunState
from rota.core.spec import AppSpec, Limits
from rota.ports.machine import Machine
from rota.ports.runtime import ReleaseOrder, Runtime, StartOrder
from rota.ports.usage import Usage
from rota.testing.clock import FakeClock
from rota.testing.dock import box_spec, dock
from rota.testing.docker import DockerEngine
from rota.testing.machine import app_spec, machine, one, packed, start_order
from rota.testing.runtime import FakeRuntime, Faults

WEB_1 = ReplicaId("web-1")
LIMITS = Limits(memory=64 * 2**20, cpus=0.5)
STUBBORN = "trap '' TERM; echo up; while :; do sleep 0.1; done"


class AnyRuntime(Runtime, Usage, Machine, Protocol):
    """What a runtime fulfils besides its own port."""


class Bench:
    """A runtime, and what differs between them: what an app is made of, sources, time, and what cannot be prepared."""

    def __init__(
        self,
        runtime: AnyRuntime,
        move: Callable[[], Any],
        upload: Callable[..., Any],
        app: Callable[..., AppSpec] = app_spec,
        broken: tuple[dict[str, Any], str] = (
            {"build_command": ["false"]},
            "build_command 'false' ended with exit code 1",
        ),
    ) -> None:
        self.runtime = runtime
        self.upload = upload
        self.app = app
        self.broken, self.broken_because = broken
        self.woken: list[str] = []
        self._move = move
        runtime.on_change(self.woken.append)

    async def replica(self, replica: ReplicaId = WEB_1) -> ObservedReplica | None:
        return (await self.runtime.observe())[0].get(replica)

    async def artefact(self, release: int = 1) -> Artefact | None:
        return (await self.runtime.observe())[1].get(("web", release))

    async def until(self, condition: Callable[[], Any]) -> Any:
        async with asyncio.timeout(30):
            while not (found := await condition()):
                await self._move()
        return found

    async def prepared(self, app: AppSpec, **files: str) -> None:
        source = await self.upload(packed(**(files or {"README": "hello"})))
        await self.runtime.prepare(ReleaseOrder("web", 1, source, app))
        await self.until(self._is_prepared)

    async def started(self, app: AppSpec, **fields: Any) -> ObservedReplica:
        await self.prepared(app)
        await self.runtime.start(start_order(1, app, **fields))
        seen = await self.replica()
        assert seen is not None
        return seen

    async def exited(self) -> ObservedReplica:
        async def look() -> ObservedReplica | None:
            seen = await self.replica()
            return seen if seen is not None and seen.exit is not None else None

        found = await self.until(look)
        assert isinstance(found, ObservedReplica)
        return found

    async def _is_prepared(self) -> bool:
        artefact = await self.artefact()
        return artefact is not None and artefact.state is ArtefactState.PREPARED


@pytest_asyncio.fixture(params=["fake", "process", "docker"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        match request.param:
            case "fake":
                yield _fake()
            case "process":
                yield await _processes(stack)
            case _:
                yield await _containers(stack, request.getfixturevalue("docker_engine"))


def _fake() -> Bench:
    clock = FakeClock()
    fake = FakeRuntime(clock, prepare_takes=0.05)
    fake.faults = _faults_by_command
    fake.prepare_faults[("web", 9)] = "build_command 'false' ended with exit code 1"

    async def move() -> None:
        clock.advance(0.05)

    return Bench(fake, move, _no_upload)


async def _processes(stack: AsyncExitStack) -> Bench:
    real = await stack.enter_async_context(machine())

    async def put(content: bytes) -> str:
        return await real.sources.put(one(content))

    return Bench(real.runtime, _wait, put)


async def _containers(stack: AsyncExitStack, engine: DockerEngine) -> Bench:
    real = await stack.enter_async_context(dock(engine))
    missing = (
        {"image": {"repository": "test/none", "pull": "never"}},
        "the image test/none:latest is not on this engine",
    )
    return Bench(real.runtime, _wait, _no_upload, box_spec, missing)


async def _no_upload(content: bytes) -> str:
    return "0" * 64


async def _wait() -> None:
    await asyncio.sleep(0.005)


def _faults_by_command(order: StartOrder) -> Faults:
    """What the real commands of these tests do, in the fake's words."""
    command = order.spec.command
    if command[0] == "not-a-program":
        return Faults(start="cannot start 'not-a-program'")
    if command[-1] == "exit 3":
        return Faults(crash_after=0.0, crash_code=3)
    return Faults(stop_takes=None if command[-1] == STUBBORN else 0.01)


async def test_a_release_is_prepared_once_and_shown_so(bench: Bench) -> None:
    app = bench.app()
    await bench.prepared(app)
    await bench.prepared(app)
    assert await bench.artefact() == Artefact(1, ArtefactState.PREPARED)
    assert "web" in bench.woken


async def test_a_release_that_cannot_be_prepared_is_shown_with_the_reason(bench: Bench) -> None:
    source = await bench.upload(packed(README="hello"))
    app = bench.app(**bench.broken)
    await bench.runtime.prepare(ReleaseOrder("web", 9, source, app))

    async def failed() -> Artefact | None:
        artefact = await bench.artefact(9)
        return artefact if artefact is not None and artefact.state is ArtefactState.FAILED else None

    artefact = await bench.until(failed)
    assert bench.broken_because in artefact.reason


async def test_a_started_replica_runs_with_what_was_ordered(bench: Bench) -> None:
    seen = await bench.started(bench.app(), slot=4, generation=7, limits=LIMITS)
    assert (seen.id, seen.app, seen.slot, seen.release, seen.generation) == ("web-1", "web", 4, 1, 7)
    assert seen.state is RunState.RUNNING
    assert seen.limits == LIMITS
    assert seen.address is not None
    assert (seen.restarts, seen.exit) == (0, None)


async def test_the_same_order_twice_starts_one_replica(bench: Bench) -> None:
    app = bench.app()
    first = await bench.started(app)
    await bench.runtime.start(start_order(1, app))
    assert await bench.replica() == first


async def test_two_replicas_have_two_addresses_and_two_runs(bench: Bench) -> None:
    app = bench.app()
    first = await bench.started(app)
    await bench.runtime.start(start_order(2, app))
    second = await bench.replica(ReplicaId("web-2"))
    assert second is not None
    assert first.address != second.address
    assert first.run != second.run


async def test_one_apps_replicas_are_looked_at_alone(bench: Bench) -> None:
    seen = await bench.started(bench.app())
    assert (await bench.runtime.observe("web"))[0] == {WEB_1: seen}
    assert (await bench.runtime.observe("other"))[0] == {}


async def test_what_cannot_be_started_fails_in_words_and_leaves_nothing(bench: Bench) -> None:
    app = bench.app("not-a-program")
    await bench.prepared(app)
    for _ in range(2):
        with pytest.raises(StartFailed, match="cannot start 'not-a-program'"):
            await bench.runtime.start(start_order(1, app))
    assert await bench.replica() is None


async def test_a_release_that_was_never_prepared_cannot_be_started(bench: Bench) -> None:
    with pytest.raises(StartFailed, match="the files of release 1 of web are not there"):
        await bench.runtime.start(start_order(1, bench.app()))
    assert await bench.replica() is None


async def test_a_replica_that_ends_by_itself_is_seen_with_its_exit_code(bench: Bench) -> None:
    started = await bench.started(bench.app("sh", "-c", "exit 3"))
    seen = await bench.exited()
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.signal, seen.exit.oom) == (3, None, False)
    assert seen.exit.at >= seen.started_at
    assert seen.run == started.run
    assert "web" in bench.woken


async def test_starting_again_what_has_exited_changes_nothing(bench: Bench) -> None:
    app = bench.app("sh", "-c", "exit 3")
    await bench.started(app)
    seen = await bench.exited()
    await bench.runtime.start(start_order(1, app))
    assert await bench.replica() == seen


async def test_stop_sends_the_stop_signal(bench: Bench) -> None:
    await bench.started(bench.app())
    await bench.runtime.stop(WEB_1)
    seen = await bench.exited()
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.signal) == (None, 15)
    await bench.runtime.stop(WEB_1)


async def test_kill_ends_what_ignores_the_stop_signal(bench: Bench) -> None:
    await bench.started(bench.app("sh", "-c", STUBBORN))
    await bench.runtime.kill(WEB_1)
    seen = await bench.exited()
    assert seen.exit is not None
    assert seen.exit.signal == 9
    await bench.runtime.kill(WEB_1)


async def test_restart_in_place_is_a_new_run_of_the_same_replica(bench: Bench) -> None:
    app = bench.app()
    first = await bench.started(app)
    await bench.runtime.stop(WEB_1)
    await bench.exited()
    again = start_order(1, app, generation=2, limits=LIMITS)
    await bench.runtime.restart(again)
    second = await bench.replica()
    assert second is not None
    assert (second.state, second.restarts, second.generation) == (RunState.RUNNING, 1, 2)
    assert (second.address, second.limits, second.exit) == (first.address, LIMITS, None)
    assert second.run != first.run
    await bench.runtime.restart(again)
    assert await bench.replica() == second


async def test_limits_of_a_running_replica_change_live_and_back(bench: Bench) -> None:
    first = await bench.started(bench.app())
    # An odd number of bytes: the kernel rounds it, and the engine must not see a difference for ever.
    for limits in (Limits(memory=50_000_001, cpus=0.333), LIMITS, Limits()):
        await bench.runtime.update_limits(WEB_1, limits)
        seen = await bench.replica()
        assert seen is not None
        assert (seen.limits, seen.run) == (limits, first.run)


async def test_a_limit_below_what_is_used_is_refused_and_changes_nothing(
    bench: Bench, request: pytest.FixtureRequest, component: Callable[[str], Path]
) -> None:
    if request.node.callspec.params["bench"] == "process":
        component("cgroups")
    await bench.started(
        bench.app("sh", "-c", "x=$(head -c 20000000 /dev/zero | tr '\\0' x); while :; do sleep 1; done")
    )

    async def used() -> bool:
        """Much more than the limit: a shell that lets a string grow gives part of it back each time."""
        return (await bench.runtime.usage([WEB_1]))[WEB_1].memory > 18 * 2**20

    await bench.until(used)
    before = await bench.replica()
    with pytest.raises(LimitsRefused, match=r"uses .* 8 MiB.* while it runs"):
        await bench.runtime.update_limits(WEB_1, Limits(memory=8 * 2**20))
    assert await bench.replica() == before


async def test_a_running_replica_is_not_removed_and_an_exited_one_is_gone_for_good(bench: Bench) -> None:
    await bench.started(bench.app())
    with pytest.raises(StepFailed, match="still runs"):
        await bench.runtime.remove(WEB_1)
    await bench.runtime.kill(WEB_1)
    await bench.exited()
    await bench.runtime.remove(WEB_1)
    assert await bench.replica() is None
    await bench.runtime.remove(WEB_1)
    await bench.runtime.stop(WEB_1)
    await bench.runtime.kill(WEB_1)


async def test_what_is_gone_can_be_neither_limited_nor_restarted(bench: Bench) -> None:
    app = bench.app()
    with pytest.raises(StepFailed, match="web-1 is gone"):
        await bench.runtime.update_limits(WEB_1, LIMITS)
    with pytest.raises(StartFailed, match="web-1 is gone"):
        await bench.runtime.restart(start_order(1, app))


async def test_forgotten_releases_are_gone_and_the_others_stay(bench: Bench) -> None:
    await bench.prepared(bench.app())
    await bench.runtime.forget("web", frozenset({1}))
    assert await bench.artefact() is not None
    await bench.runtime.forget("web", frozenset())
    assert await bench.artefact() is None


async def test_what_runs_is_measured_and_nothing_else_is(bench: Bench) -> None:
    await bench.started(bench.app("sh", "-c", "while :; do :; done"))
    first = (await bench.runtime.usage([WEB_1, ReplicaId("web-9")]))[WEB_1]
    assert first.memory > 0

    async def worked() -> bool:
        reading = (await bench.runtime.usage([WEB_1]))[WEB_1]
        assert reading.cpu_seconds >= first.cpu_seconds
        return reading.at > first.at and reading.cpu_seconds > first.cpu_seconds

    await bench.until(worked)
    waited = await bench.runtime.waited(WEB_1)
    assert waited is not None
    assert waited >= 0
    assert await bench.runtime.usage([ReplicaId("web-9")]) == {}
    assert await bench.runtime.waited(ReplicaId("web-9")) is None
    await bench.runtime.kill(WEB_1)
    await bench.exited()
    assert await bench.runtime.usage([WEB_1]) == {}
    assert await bench.runtime.waited(WEB_1) is None


async def test_its_machine_is_as_large_as_it_is(bench: Bench) -> None:
    size = await bench.runtime.size()
    assert size.memory > 64 * 2**20
    assert size.cpus > 0
    left = await bench.runtime.available()
    assert left is None or 0 < left <= size.memory
