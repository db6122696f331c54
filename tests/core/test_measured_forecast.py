"""What is foretold by measurements is what then happens: on a HAProxy that is told one thing after the other, and with
replicas that hold each other up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.core.scenario import empty, options

from rota.core import order as o
from rota.core import steps as s
from rota.core.begin import begin
from rota.core.durations import Durations
from rota.core.events import Event, EventKind
from rota.core.forecast import forecast
from rota.core.measured import measured
from rota.core.observation import Reloads
from rota.core.rollout import Phase
from rota.ports.runtime import StartOrder
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of

BOOT, BEHIND, STOP = 0.8, 0.2, 0.1  # seconds: a boot, how much later each further one of a moment is, a stop
CALL = 0.04  # of one call on HAProxy


@dataclass
class Machine:
    """The fakes take their time; and the events that a store would have."""

    first: o.Order
    app: Simulation = field(default_factory=empty)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._started: list[float] = []
        self.app.takes = self._takes
        self.app.runtime.faults = self._faults
        self.carry_out(self.first)

    def carry_out(self, order: o.Order) -> float:
        app = self.app
        app.steps.clear()
        app.order(order)
        began = app.now
        app.run(1000.0, lambda: app.rollout.phase.ended)
        assert app.rollout.phase is Phase.SUCCEEDED
        took = app.now - began
        app.run(60.0)
        self.events += [event_of(done.at, app.rollout.id, done.step) for done in app.steps]
        return took

    def foretold(self, order: o.Order) -> float:
        state = begin(self.app.state, order, "web", self.app.now, {})
        known = measured(self.events, state.releases).durations(Reloads(), Durations())
        return forecast(state, self.app.observe(), known, self.app.now).seconds

    def _takes(self, step: s.Step) -> float:
        """Whoever looks at HAProxy waits until it was told all that it was to be told at a moment."""
        if not isinstance(step, s.BalancerStep):
            return 0.0
        return CALL * sum(done.at == self.app.now and isinstance(done.step, s.BalancerStep) for done in self.app.steps)

    def _faults(self, order: StartOrder) -> Faults:
        now = self.app.now
        behind = self._started.count(now)
        self._started.append(now)
        boot = BOOT + behind * BEHIND
        return Faults(listens_after=boot, healthy_after=boot, stop_takes=STOP)


def event_of(at: float, rollout: str, step: s.Step) -> Event:
    replica = step.replica if isinstance(step, s.ReplicaStep) else None
    healthy_for = step.healthy_for if isinstance(step, s.EnableServer) else None
    return Event(at, "web", EventKind.STEP, rollout, type(step).__name__, replica, healthy_for=healthy_for)


def blue_green(number: int) -> o.Order:
    spec = spec_of(replicas=3, deployment_strategy="blue-green", keep_old=0, env=[{"name": "N", "value": str(number)}])
    return o.Deploy(spec=spec)


def restart(**policy: Any) -> o.Order:
    return o.Restart(policy=options(**policy))


@pytest.mark.parametrize(
    "policy",
    [{}, {"parallelism": 2}, {"parallelism": 3}, {"mode": "simultaneous"}, {"order": "stop-first"}],
    ids=str,
)
def test_a_restart_takes_what_was_foretold_by_the_one_before(policy: Mapping[str, Any]) -> None:
    machine = Machine(o.Deploy(spec=spec_of(replicas=3)))
    machine.carry_out(restart(**policy))
    foretold = machine.foretold(restart(**policy))
    assert foretold == pytest.approx(machine.carry_out(restart(**policy)), rel=0.03)


def test_a_switch_of_blue_and_green_takes_what_was_foretold_by_those_before() -> None:
    machine = Machine(blue_green(0))
    for number in (1, 2):
        machine.carry_out(blue_green(number))
    foretold = machine.foretold(blue_green(3))
    assert foretold == pytest.approx(machine.carry_out(blue_green(3)), rel=0.03)
