"""What a roster takes over from the one before; that it is what would be made anew is held in every history
(rota.testing.simulation_rules)."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace
from typing import Any

import pytest
from tests.core.scenario import deployed

from rota.core import order as o
from rota.core import roster
from rota.core.begin import begin
from rota.core.durations import Durations
from rota.core.forecast import forecast
from rota.core.member import Member
from rota.core.names import ReplicaId
from rota.core.observation import ObservedServer, ServerState
from rota.core.readiness import Health, Stage
from rota.core.rollout import SlotTarget
from rota.core.situation import Situation

ONE, TWO = ReplicaId("web-1"), ReplicaId("web-2")


def anew(before: Situation, now: Situation) -> Set[ReplicaId]:
    """Whose members were not taken over."""
    now = replace(now, before=before.roster)
    return {name for name, member in now.members.items() if member is not before.members.get(name)}


def test_those_of_whom_nothing_has_changed_are_taken_over() -> None:
    here = deployed(3).here()
    assert anew(here, replace(here, now=here.now + 10.0)) == set()
    busy = replace(here, observed=replace(here.observed, busy=frozenset({TWO})))
    assert anew(here, busy) == {TWO}
    assert anew(busy, here) == {TWO}


def test_one_of_whom_something_else_is_seen_is_another() -> None:
    here = deployed(3).here()
    seen = here.observed.balancer
    servers: dict[ReplicaId, ObservedServer] = {name: replace(server) for name, server in seen.servers.items()}
    servers[ONE] = replace(servers[ONE], state=ServerState.MAINT)
    now = replace(here, observed=replace(here.observed, balancer=replace(seen, servers=servers)))
    assert anew(here, now) == {ONE}
    del servers[ONE]
    assert anew(now, here) == {ONE}


def test_one_whose_slot_is_to_run_something_else_is_another() -> None:
    here = deployed(3).here()
    current = here.desired.current
    other = SlotTarget(current.release, current.min_generation + 1, current.limits)
    now = replace(here, state=replace(here.state, desired=replace(here.desired, slots={2: other, 9: other})))
    assert anew(here, now) == {TWO}


def test_at_an_earlier_time_nobody_is_taken_over() -> None:
    here = deployed(3).here()
    assert anew(here, replace(here, now=here.now - 1.0)) == set(here.members)


def test_one_that_got_further_by_the_time_alone_is_another() -> None:
    simulation = deployed(3, min_ready_seconds=5)
    simulation.order(o.Restart())
    simulation.run(4.0)
    here = simulation.here()
    (booting,) = (member for member in here.members.values() if member.ready.until is not None)
    assert booting.ready.until is not None
    assert anew(here, replace(here, now=here.now + 0.01)) == set()
    assert anew(here, replace(here, now=booting.ready.until)) == {booting.id}


def test_one_of_a_release_that_nobody_knows_is_asked_nothing() -> None:
    here = deployed(1).here()
    stray = replace(here.observed.replicas[ONE], release=77)
    state = replace(here.state, recorded=replace(here.recorded, replicas={}))
    observed = replace(here.observed, replicas={ONE: stray})
    member = replace(here, state=state, observed=observed).members[ONE]
    assert (member.health, member.ready.stage, member.known) == (Health.UNASKED, Stage.STARTING, False)


def test_a_forecast_makes_each_member_anew_a_few_times_not_at_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    replicas, made = 12, 0

    def counted(**parts: Any) -> Member:
        nonlocal made
        made += 1
        return Member(**parts)

    simulation = deployed(replicas)
    state = begin(simulation.state, o.Restart(), "web", simulation.now, {})
    observed = simulation.observe()
    monkeypatch.setattr(roster, "Member", counted)
    seen = forecast(state, observed, Durations(), simulation.now)
    assert made <= 20 * replicas < len(seen.steps) * replicas
