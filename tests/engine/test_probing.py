"""When a replica is asked again, and what an answer that nobody could get says of it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from tests.core.test_healthcheck import CHECKS
from tests.core.test_readiness import REPLICA

from rota.core.errors import StepFailed
from rota.core.healthcheck import Check, Kind
from rota.core.names import ReplicaId
from rota.core.observation import Address, ProbeHistory
from rota.engine.probing import Probed, Probing, pause
from rota.ports.prober import ProbeResult
from rota.testing.clock import FakeClock
from rota.testing.runtime import FakeRuntime
from rota.testing.simulation_history import spec_of

EXEC = Check(Kind.EXEC, interval=2.0, fast_interval=0.5, fall=3, rise=2, start_interval=0.1)


@pytest.mark.parametrize(
    ("passes", "fails", "served", "took", "expected"),
    [
        (0, 1, False, 0.01, 0.1),  # not ready yet
        (1, 0, False, 0.4, 0.4),  # a command that takes long is not run all the time
        (2, 0, True, 0.25, 1.75),  # from beginning to beginning
        (0, 1, True, 0.1, 0.4),  # after a first failure
        (0, 3, True, 2.0, 0.0),  # one that hangs longer than the interval
        (1, 0, True, 0.0, 0.5),  # on its way back
    ],
)
def test_when_a_replica_is_asked_again(passes: int, fails: int, served: bool, took: float, expected: float) -> None:
    history = ProbeHistory("run", 0.0, 0.0, passes, fails=fails)
    assert pause(EXEC, history, served, took) == pytest.approx(expected)


@given(CHECKS)
def test_one_that_hangs_fails_its_last_check_when_the_core_says(check: Check) -> None:
    check = replace(check, kind=Kind.EXEC)
    now, wait = 0.0, pause(check, ProbeHistory("run", 0.0, 0.0, passes=check.rise), served=True, took=0.0)
    for failed in range(1, check.fall + 1):
        now += wait + check.timeout
        wait = pause(check, ProbeHistory("run", 0.0, 0.0, fails=failed), served=True, took=check.timeout)
    assert now == pytest.approx(check.hung_out_within)


class Scripted:
    """Each answer once, then none; ``told`` is set when all were given."""

    def __init__(self, *answers: str | StepFailed) -> None:
        self.left = list(answers)
        self.refused: set[str] = set()
        self.asked: list[tuple[str, str]] = []
        self.told = asyncio.Event()

    async def accepts(
        self, replica: ReplicaId, address: Address, timeout: float, variable: str = "PORT"
    ) -> ProbeResult:
        self.asked.append((variable, str(address)))
        return ProbeResult("connection refused" if variable in self.refused else "")

    async def healthy(self, replica: ReplicaId, address: Address, check: Check, host: str) -> ProbeResult:
        if not self.left:
            self.told.set()
            await asyncio.Event().wait()
        answer = self.left.pop(0)
        if isinstance(answer, StepFailed):
            raise answer
        return ProbeResult(answer)


async def test_a_check_that_could_not_be_made_is_no_failure() -> None:
    check = {"type": "exec", "command": ["x"], "interval": 0.1, "start_interval": 0.01, "fall": 2}
    prober = Scripted("", "", "exit code 1", StepFailed("the engine does not answer"), "exit code 1")
    woken: list[str] = []
    probing = Probing(prober, FakeRuntime(FakeClock()), FakeClock(), woken.append)
    replica = replace(REPLICA, address=Address("127.0.0.1", 1))
    probing.watch("web", {REPLICA.id: Probed(replica, spec_of(health_check=check))})
    try:
        await asyncio.wait_for(prober.told.wait(), 10)
        seen = probing.seen(REPLICA.id)
        assert seen is not None
        assert (seen.passes, seen.fails, seen.last_failure) == (0, 2, "exit code 1")
        assert woken == ["web"] * 4  # accepted, healthy, not so any more, ill
    finally:
        await probing.close()


async def test_what_a_replica_had_waited_is_noted_at_its_first_check_that_passes() -> None:
    class Once(FakeRuntime):
        async def waited(self, replica: ReplicaId) -> float | None:
            self.asked = [*getattr(self, "asked", []), len(prober.left)]
            return 0.5

    replica = replace(REPLICA, address=Address("127.0.0.1", 1))
    prober = Scripted("not yet", "", "")
    runtime = Once(FakeClock())
    probing = Probing(prober, runtime, FakeClock(), lambda app: None)
    check = {"interval": 0.1, "start_interval": 0.01, "rise": 1}
    probing.watch("web", {replica.id: Probed(replica, spec_of(health_check=check))})
    try:
        await asyncio.wait_for(prober.told.wait(), 10)
        seen = probing.seen(replica.id)
        assert seen is not None
        assert (seen.waited, runtime.asked) == (0.5, [1])
    finally:
        await probing.close()


async def test_a_replica_has_accepted_once_it_does_on_all_its_ports() -> None:
    prober = Scripted("")
    prober.refused = {"PORT_22"}
    woken = asyncio.Event()
    probing = Probing(prober, FakeRuntime(FakeClock()), FakeClock(), lambda app: woken.set())
    replica = replace(REPLICA, address=Address("127.0.0.1", 1), ports={5432: 2, 22: 3})
    spec = spec_of(ports=[{"listen": 5432}, {"listen": 2222, "port": 22}], port=8080)
    probing.watch("web", {REPLICA.id: Probed(replica, spec)})
    try:
        async with asyncio.timeout(10):
            while ("PORT_22", "127.0.0.1:3") not in prober.asked[:-1]:
                await asyncio.sleep(0.001)
        seen = probing.seen(REPLICA.id)
        assert seen is not None
        assert (seen.accepted_at, seen.last_failure) == (None, "$PORT_22: connection refused")
        assert prober.asked[:3] == [("PORT", "127.0.0.1:1"), ("PORT_5432", "127.0.0.1:2"), ("PORT_22", "127.0.0.1:3")]
        prober.refused = set()
        await asyncio.wait_for(woken.wait(), 10)
        seen = probing.seen(REPLICA.id)
        assert seen is not None
        assert seen.accepted_at is not None
    finally:
        await probing.close()
