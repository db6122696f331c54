"""A random life of one app: orders of people and faults of the world at given times, played into a Simulation."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rota.core import order as o
from rota.core import steering
from rota.core import steps as s
from rota.core.errors import RotaError
from rota.core.names import ReplicaId
from rota.core.notice import Topic
from rota.core.observation import RunState
from rota.core.rolling import is_done
from rota.core.rollout import Phase, Rollout
from rota.core.situation import Situation
from rota.core.spec import AppSpec, RolloutOptions
from rota.core.state import AppState, SlotRecord
from rota.ports.runtime import StartOrder
from rota.testing.dns import FakeDns
from rota.testing.runtime import Faults
from rota.testing.simulation import Crash, Simulation
from rota.testing.simulation_rules import DesignRules

MOODS: dict[str, Faults] = {
    "good": Faults(),
    "deaf": Faults(listens_after=None),
    "ill": Faults(healthy_after=None),
    "crashing": Faults(listens_after=0.0, healthy_after=None, crash_after=0.05),
    "flapping": Faults(crash_after=0.3),
    "short-lived": Faults(crash_after=3.0),
    "refused": Faults(start="there is no such program"),
    "unbuilt": Faults(),
}
"""How the replicas of a release behave; the release says so in its environment."""

_OF_ROLLOUTS = frozenset({Topic.ROLLOUT_FAILED, Topic.ROLLED_BACK})
DNS: dict[str, Callable[[], dict[str, FakeDns]]] = {
    "none": dict,
    "internal": lambda: {"internal": FakeDns()},
    "warns": lambda: {"internal": FakeDns(), "zone": FakeDns("localhost", ttl=3.0)},
    "blocks": lambda: {"internal": FakeDns(), "zone": FakeDns("localhost", ttl=3.0, required=True)},
}
"""The views of DNS that there are."""

PATIENCE = 3600.0  # seconds of the simulation in which every rollout comes to its end


@dataclass(frozen=True)
class Deed:
    """After ``wait`` seconds ``what`` happens; ``given`` are its details."""

    wait: float
    what: str
    given: Any = None


@dataclass(frozen=True)
class History:
    """``seed`` gives what is of no interest by itself: how long each start, stop, call and request takes. ``dns`` is
    one of DNS."""

    spec: dict[str, Any]
    deeds: Sequence[Deed]
    seed: int
    dns: str = "none"


def spec_of(mood: str = "good", **fields: Any) -> AppSpec:
    return AppSpec.model_validate(
        {
            "name": "web",
            "command": ["serve"],
            "env": [{"name": "MOOD", "value": mood}],
            "boot_timeout": 4.0,
            "stop_grace_period": 0.5,
            "drain": {"timeout": 0.2},
            "restart": {"attempts": 3, "delay": 0.1, "max_delay": 4.0},
            **fields,
        }
    )


def mood_of(spec: AppSpec) -> str:
    return next((entry.value for entry in spec.env if entry.name == "MOOD"), "good")


class Life:
    """Plays a history; ``simulation`` may be looked at all the time."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.simulation = Simulation(rules=DesignRules())
        self.simulation.dns.update(DNS[history.dns]())
        self.refusals: list[str] = []
        self._refuse = 0
        self._lost_until: float | None = None
        simulation = self.simulation
        simulation.runtime.faults = self._faults
        simulation.takes = self._takes
        simulation.refuses = self._refuses
        simulation.opens = self._opens
        simulation.stays = lambda replica: self._dice("stays", replica).choice([0.0, 0.3, 40.0])
        simulation.visits = lambda replica: self._dice("visits", replica).choice([0.0, 0.05, 0.5])
        simulation.old_process_ends_after = self._dice("old process").choice([0.0, 0.1, 0.5])
        simulation.runtime.prepare_takes = self._dice("prepare").choice([0.0, 0.5])

    def play(self) -> None:
        self._order(o.Deploy(spec=spec_of(**self.history.spec)))
        for deed in self.history.deeds:
            self._run(deed.wait)
            if self.simulation.state is None:
                return
            getattr(self, f"_do_{deed.what}")(deed.given)
        self._become_calm()
        self._finish()
        self.check_notices()

    def check_notices(self) -> None:
        """One message an incident, and its end is told once."""
        topics = [notice.topic for notice in self.simulation.notices]
        ends = [notice.title.partition(": ")[2] for notice in self.simulation.notices if notice.topic in _OF_ROLLOUTS]
        assert len(ends) == len(set(ends)), f"a rollout's end is told twice: {ends}"
        began = topics.count(Topic.CRASH_LOOP) + topics.count(Topic.UNHEALTHY)
        assert topics.count(Topic.RECOVERED) <= began, f"an end without a beginning: {topics}"

    @property
    def is_to_work(self) -> bool:
        """Every slot is to run a release that can, and none is given up until a person acts (restart.give_up)."""
        state = self.simulation.state
        if state is None or not state.desired.running:
            return True
        if state.recorded.running_rollout is not None:
            return False
        return all(self._can_work(state, slot) for slot in range(1, state.desired.replicas + 1))

    def _can_work(self, state: AppState, slot: int) -> bool:
        spec = state.releases[state.desired.target(slot).release].spec
        tried = state.recorded.slots.get(slot, SlotRecord()).attempts
        return mood_of(spec) == "good" and not (spec.restart.give_up and tried >= spec.restart.attempts)

    # What happens

    def _do_deploy(self, given: tuple[str, dict[str, Any], bool]) -> None:
        mood, changes, supersede = given
        if mood == "unbuilt" and self.simulation.state is not None:
            number = self.simulation.state.recorded.next_release
            self.simulation.runtime.prepare_faults["web", number] = "the build failed"
        self._order(o.Deploy(spec=spec_of(mood, **{**self.history.spec, **changes}), supersede=supersede))

    def _do_restart(self, given: tuple[RolloutOptions, bool]) -> None:
        self._order(o.Restart(policy=given[0], supersede=given[1]))

    def _do_redeploy(self, given: Any) -> None:
        self._order(o.Redeploy())

    def _do_rollback(self, given: bool) -> None:
        self._order(o.Rollback(supersede=given))

    def _do_limits(self, given: tuple[int, RolloutOptions]) -> None:
        self._order(o.ChangeLimits(memory=given[0] * 2**20, policy=given[1]))

    def _do_scale(self, given: int) -> None:
        self._order(o.Scale(replicas=given))

    def _do_stop(self, given: bool) -> None:
        self._order(o.Stop(remove=given, supersede=True))

    def _do_start(self, given: Any) -> None:
        self._order(o.Start(supersede=True))

    def _do_remove(self, given: Any) -> None:
        self._order(o.Remove(supersede=True))

    def _do_steer(self, given: str) -> None:
        state = self.simulation.state
        if state is not None and state.recorded.running_rollout is not None:
            self._try(lambda: self.simulation.ask(getattr(steering, given)))

    def _do_skip(self, given: int) -> None:
        self._ask_of_state(lambda state, rollout: steering.skip(state, rollout, steering.Skip(slot=given)))

    def _do_tune(self, given: steering.Pace) -> None:
        self._ask_of_state(lambda state, rollout: steering.tune(state, rollout, given))

    def _ask_of_state(self, change: Callable[[AppState, Rollout], Rollout]) -> None:
        state = self.simulation.state
        if state is not None and state.recorded.running_rollout is not None:
            self._try(lambda: self.simulation.ask(lambda rollout, now: change(state, rollout)))

    def _do_suspend(self, given: bool) -> None:
        self.simulation.suspend(given)

    def _do_kill(self, given: int) -> None:
        running = self._running()
        if running:
            self.simulation.runtime.crash(running[given % len(running)], None, signal=9)

    def _do_stop_by_hand(self, given: int) -> None:
        running = self._running()
        if running:
            self.simulation.runtime.stop_by_hand(running[given % len(running)])

    def _do_vanish(self, given: int) -> None:
        running = self._running()
        if running:
            self.simulation.runtime.vanish(running[given % len(running)])

    def _do_sicken(self, given: tuple[int, float]) -> None:
        running, now = self._running(), self.simulation.now
        if running:
            self.simulation.unhealthy[running[given[0] % len(running)]] = (now, now + given[1])

    def _do_sicken_all(self, given: float) -> None:
        """What all of them depend on is gone for so long; those that are started meanwhile come up."""
        now = self.simulation.now
        self.simulation.unhealthy |= dict.fromkeys(self._running(), (now, now + given))

    def _do_crash(self, given: int | None) -> None:
        self.simulation.crash = Crash(given)

    def _do_refuse(self, given: int) -> None:
        self._refuse = given

    def _do_lose_balancer(self, given: float) -> None:
        if self._lost_until is None:
            self.simulation.lose_balancer()
            self._lost_until = self.simulation.now + given

    def _do_dns(self, given: str) -> None:
        for view in self.simulation.dns.values():
            getattr(view, given)()

    # How

    def _run(self, seconds: float) -> None:
        end = self.simulation.now + seconds
        if self._lost_until is not None:
            self.simulation.run(min(seconds, self._lost_until - self.simulation.now))
            if self.simulation.now >= self._lost_until - 1e-6:
                self._lost_until = None
                self.simulation.restore_balancer()
        self.simulation.run(end - self.simulation.now)

    def _order(self, order: o.Order) -> None:
        self._try(lambda: self.simulation.order(order))

    def _try(self, act: Any) -> None:
        try:
            act()
        except RotaError as error:
            self.refusals.append(error.message)

    def _running(self) -> list[ReplicaId]:
        return [name for name, seen in self.simulation.seen().items() if seen.state is RunState.RUNNING]

    def _become_calm(self) -> None:
        """No more faults but those of bad releases, and a person who resumes nothing."""
        self._refuse = 0
        self._do_dns("restore")
        self.simulation.crash = None
        self.simulation.unhealthy.clear()
        if self._lost_until is not None:
            self._lost_until = None
            self.simulation.restore_balancer()
        if self.simulation.state is not None:
            self.simulation.suspend(False)

    def _finish(self) -> None:
        """To the end of the rollout under way; what waits for a person is aborted, once."""
        self.simulation.run(PATIENCE, self._waits_or_ended)
        if self._phase() is Phase.PAUSED:
            self._do_steer("abort")
            self.simulation.run(PATIENCE, self._waits_or_ended)
        assert self._waits_or_ended(), f"{self.simulation.rollout.id} did not end: {self.simulation.rollout}"
        if self.is_to_work and self.simulation.state is not None:
            self.simulation.run(60.0)

    def _waits_or_ended(self) -> bool:
        phase = self._phase()
        return phase is None or phase is Phase.PAUSED

    def _phase(self) -> Phase | None:
        state = self.simulation.state
        rollout = state.recorded.running_rollout if state is not None else None
        return rollout.phase if rollout is not None else None

    # Chance

    def _dice(self, *about: object) -> random.Random:
        return random.Random(f"{self.history.seed}/{about}")  # noqa: S311

    def _faults(self, order: StartOrder) -> Faults:
        faults, dice = MOODS[mood_of(order.spec)], self._dice(order.replica, self.simulation.turns)
        listens = dice.choice([0.0, 0.2, 1.5])
        faults = replace(faults, stop_takes=dice.choice([0.0, 0.3, None]), explained_after=dice.choice([0.0, 0.0, 0.1]))
        if faults.listens_after is not None:
            faults = replace(faults, listens_after=listens)
        if faults.healthy_after is not None:
            faults = replace(faults, healthy_after=listens + dice.choice([0.0, 0.5]))
        return faults

    def _takes(self, step: s.Step) -> float:
        return self._dice(step.reason, self.simulation.turns).choice([0.0, 0.0, 0.005, 0.15])

    def _refuses(self, step: s.Step) -> str:
        if self._refuse <= 0:
            return ""
        self._refuse -= 1
        return self._dice("refuse", self.simulation.turns).choice(["before", "after"])

    def _opens(self, replica: ReplicaId) -> tuple[float, ...]:
        return self._dice("open", replica).choice([(), (0.05,), (0.1, 0.15), (30.0,)])


def check_settled(simulation: Simulation) -> None:
    """The app is as it is to be, nothing is left over, and the loop has nothing to do."""
    if simulation.state is None:
        assert not simulation.seen()
        assert not simulation.balancer.apps
        # One that only warns may have been away when the app was removed: then its records are left.
        required = [view for view in simulation.dns.values() if view.required]
        assert not any(view.seen.get(simulation.app) for view in required)
        return
    here = simulation.here()
    for slot in here.slots:
        assert is_done(here, slot), f"slot {slot} did not become what it is to be: {here.of_slot(slot)}"
    for member in here.members.values():
        assert member.record.slot in here.slots or not member.running, f"{member.id} is left over"
    for name, view in simulation.dns.items():
        assert set(view.seen.get(simulation.app, {})) == _to_be_named(here, view), name
    assert set(simulation.seen()) <= set(here.recorded.replicas), "an orphan"
    decision = simulation.turn()
    assert not decision.steps, f"settled, and yet {decision.steps}"


def _to_be_named(here: Situation, view: FakeDns) -> set[ReplicaId]:
    serving = [member for member in here.members.values() if member.serving]
    hosts = {member.id: frozenset(here.spec(member.record.release).hosts) for member in serving}
    return {name for name in hosts if not view.zone or view.ours(hosts[name])}
