"""What a command inside a replica is promised, held by the fake, by real processes and by real containers alike."""

from __future__ import annotations

import asyncio
import os
import resource
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import RunState
from rota.ports.exec import NOT_FOUND, Exec, Ran
from rota.ports.runtime import ReleaseOrder, Runtime
from rota.testing.clock import FakeClock
from rota.testing.dock import box_spec, dock
from rota.testing.exec import FakeExec, Program
from rota.testing.machine import app_spec, machine, start_order, until
from rota.testing.runtime import FakeRuntime

pytestmark = pytest.mark.asyncio(loop_scope="module")

WEB_1, WEB_2 = ReplicaId("web-1"), ReplicaId("web-2")
LONG = 30.0  # seconds; nothing takes as long
IN_TIME = 0.5
VARIABLES = [{"name": "GREETING", "value": "good day"}]
ECHO = ("sh", "-c", "echo to stdout; echo to stderr >&2; exit 3")
SURROUNDINGS = ("sh", "-c", 'echo "$GREETING $ROTA_REPLICA ${1#"$PORT"}"', "sh", "$PORT.")
FLOOD = ("sh", "-c", "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done")
HANG = "echo begun; sleep {0} & (setsid sleep {0} >/dev/null 2>&1 &); wait"
TALK = ("sh", "-c", "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done")
KILLED = ("sh", "-c", "kill -9 $$")


@dataclass
class Bench:
    exec: Exec
    runtime: Runtime

    async def run(self, *command: str, timeout: float = LONG, most: int = 1000) -> Ran:
        return await self.exec.run(WEB_1, command, timeout, most)


@pytest_asyncio.fixture(params=["fake", "process", "docker"], scope="module", loop_scope="module")
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        app = app_spec(env=VARIABLES)
        match request.param:
            case "fake":
                fake = FakeRuntime(FakeClock())
                exec = FakeExec(fake)
                exec.does = _as_the_real_ones
                await fake.prepare(ReleaseOrder("web", 1, None, app))
                bench = Bench(exec, fake)
            case "process":
                real = await stack.enter_async_context(machine())
                await real.unpacked(app, README="hello")
                bench = Bench(real.runtime.exec, real.runtime)
            case _:
                box = await stack.enter_async_context(dock(request.getfixturevalue("docker_engine")))
                app = box_spec(env=VARIABLES)
                await box.prepared(app)
                bench = Bench(box.runtime.exec, box.runtime)
        for number in (1, 2):
            await bench.runtime.start(start_order(number, app))
        yield bench


def _as_the_real_ones(replica: ReplicaId, command: tuple[str, ...]) -> Program:
    if command[0] == "not-a-program":
        return Program(NOT_FOUND, "not-a-program: not found")
    known = {
        ECHO: Program(3, "to stdout\nto stderr\n"),
        FLOOD: Program(0, "y" * 2**20, takes=LONG),
        TALK: Program(0, "".join(f"line {number}\n" for number in range(500))),
        KILLED: Program(137),
    }
    if "wait" in command[-1]:
        return Program(0, "begun\n", takes=LONG)
    if command in known:
        return known[command]
    return Program(0, f"good day {replica} .\n")


async def test_a_command_gives_its_exit_code_and_what_it_wrote(bench: Bench) -> None:
    ran = await bench.run(*ECHO)
    assert ran.code == 3
    assert not ran.cut
    assert sorted(ran.output.splitlines()) == ["to stderr", "to stdout"]


async def test_a_signal_that_ends_it_is_a_code_as_a_shells(bench: Bench) -> None:
    assert (await bench.run(*KILLED)).code == 137


async def test_it_has_the_replicas_environment_and_its_port(bench: Bench) -> None:
    assert await bench.run(*SURROUNDINGS) == Ran(0, "good day web-1 .\n")


async def test_of_much_output_the_end_is_kept(bench: Bench) -> None:
    ran = await bench.run(*TALK, most=20)
    assert ran == Ran(0, "97\nline 498\nline 499\n"[-20:], cut=True)


async def test_a_program_that_is_not_there_is_told(bench: Bench) -> None:
    ran = await bench.run("not-a-program")
    assert ran.code in (NOT_FOUND, 126)
    assert "not-a-program" in ran.output


@pytest.mark.feature("W5")
async def test_what_hangs_ends_at_its_time_with_all_its_processes(bench: Bench) -> None:
    nap = f"1000.{secrets.randbelow(10**9)}"
    ran = await bench.run("sh", "-c", HANG.format(nap), timeout=IN_TIME)
    assert ran == Ran(None, "begun\n")
    assert [command for command in _commands() if nap in command] == []


def _commands() -> Iterator[str]:
    """Of all processes of this machine, those in containers too."""
    for pid in os.listdir("/proc"):
        with suppress(OSError):
            yield Path("/proc", pid, "cmdline").read_text(errors="replace")


@pytest.mark.feature("W5")
async def test_what_writes_without_end_costs_bounded_memory(bench: Bench) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ran = await bench.run(*FLOOD, timeout=IN_TIME)
    assert (ran.code, ran.cut, len(ran.output)) == (None, True, 1000)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB


async def test_several_run_beside_each_other(bench: Bench) -> None:
    results = await asyncio.gather(*(bench.run(*ECHO) for _ in range(4)))
    assert {ran.code for ran in results} == {3}


async def test_beside_what_does_not_run_nothing_is_run(bench: Bench) -> None:
    with pytest.raises(StepFailed, match="web-9 does not run"):
        await bench.exec.run(ReplicaId("web-9"), ECHO, LONG)
    await bench.runtime.kill(WEB_2)

    async def exited() -> bool:
        return (await bench.runtime.observe())[0][WEB_2].state is RunState.EXITED

    await until(exited)
    with pytest.raises(StepFailed, match="web-2 does not run"):
        await bench.exec.run(WEB_2, ECHO, LONG)
