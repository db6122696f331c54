"""A plan: what an order would do as things stand, how long it would take, and what that means for the users.

Made by engine.planner, shown by engine.plan_view."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rota.core import publication
from rota.core import steps as s
from rota.core.durations import Durations
from rota.core.forecast import Forecast, Planned, forecast
from rota.core.names import ReplicaId
from rota.core.observation import Observation
from rota.core.promise import basis, in_words
from rota.core.quantities import written_seconds
from rota.core.rollout import Phase, Rollout
from rota.core.situation import Draft, Situation
from rota.core.state import AppState

FAR = 2  # times as many boots at once as were seen, or as few: what is then reckoned is a rough guess

_UNPLANNED = s.RecordCounters | s.OpenGap | s.CloseGap | s.NoteOutage
"""They depend on who is served at the time, and change nothing for anybody."""


class Change(enum.Enum):
    """What a rollout is to the users (J7)."""

    ROLLING = "rolling"  # somebody serves throughout
    FULL = "full"  # for a time nobody does
    FIRST = "first"  # nobody did before


@dataclass(frozen=True)
class Plan:
    """``state`` is the app's, were the order given; ``open`` counts what is open at each replica now."""

    state: AppState
    forecast: Forecast
    durations: Durations
    basis: Mapping[str, Any]
    open: Mapping[ReplicaId, int]
    ttl: float = 0.0
    """Seconds that each replica waits for caches that may have its records; 0 where they stay in DNS."""

    @property
    def rollout(self) -> Rollout:
        rollout = self.state.recorded.rollout
        assert rollout is not None  # every order leaves one
        return rollout

    @property
    def steps(self) -> tuple[Planned, ...]:
        return tuple(planned for planned in self.forecast.steps if not isinstance(planned.step, _UNPLANNED))

    @property
    def words(self) -> tuple[str, ...]:
        """The steps as a saved plan keeps them."""
        return tuple(in_words(planned.step) for planned in self.steps)

    @property
    def change(self) -> Change:
        if not self.forecast.curve[0].serving:
            return Change.FIRST
        return Change.ROLLING if self.forecast.least else Change.FULL

    @property
    def leaving(self) -> Mapping[ReplicaId, int]:
        """What is open now at the replicas that will leave."""
        leaving = {one.step.replica for one in self.forecast.steps if isinstance(one.step, s.DisableServer)}
        return {replica: count for replica, count in self.open.items() if replica in leaving}

    @property
    def drain_timeout(self) -> float:
        """Seconds after which what is still open at a replica that leaves is cut."""
        release = self.rollout.from_release or self.rollout.to_release or self.state.desired.current.release
        return self.state.releases[release].spec.drain.timeout

    @property
    def meaning(self) -> str:
        """What the users notice, in a sentence or two."""
        if self.forecast.cut:
            return f"no end in sight after {written_seconds(self.forecast.seconds)}: it would be tried again and again"
        if self.forecast.phase is not Phase.SUCCEEDED:
            return f"as things stand it would end as {self.forecast.phase.value.replace('_', ' ')}"
        least, wanted = self.forecast.least, self.forecast.curve[0].serving
        match self.change:
            case Change.FIRST:
                return "nobody is served now" + (f"; {self.forecast.most} replicas will serve" if self._serves else "")
            case Change.FULL if self._serves:
                return f"nobody is served for about {written_seconds(self.forecast.outage)}: requests fail meanwhile"
            case Change.FULL:
                return "nobody is served any more"
            case _:
                return f"users notice nothing: at least {least} of {wanted} replicas serve throughout"

    @property
    def dns(self) -> str:
        """What a person should know who gave a delay and has each replica leave DNS first; else empty."""
        ttl, delay = written_seconds(self.ttl), self.rollout.policy.delay
        if not self.ttl:
            return ""
        waits = f"each replica leaves DNS {ttl} before it leaves the balancer, so that no cache has its records"
        longer = f", which is longer than the delay of {written_seconds(delay)}"
        return waits + (longer if 0 < delay < self.ttl else "")

    @property
    def coarse(self) -> str:
        """What a person should know whose replicas were never seen to boot in such numbers at once; else empty."""
        known = {count: self.durations.reckoned_from(count) for count in sorted(self.forecast.boots)}
        known = {count: by for count, by in known.items() if self.durations.boot[by].of}
        far = [(count, by) for count, by in known.items() if max(count, by) >= FAR * min(count, by)]
        if not far:
            return ""
        count, by = far[0]
        longer = ", which may take longer" if by > count else ", and several may take longer"
        return f"coarse: no boot was seen yet of {_at_once(count)}, only of {_at_once(by)}{longer}"

    @property
    def _serves(self) -> bool:
        """Somebody is served in the end."""
        return self.forecast.curve[-1].serving > 0


def _at_once(count: int) -> str:
    return "one alone" if count == 1 else f"{count} at once"


def plan(state: AppState, observed: Observation, durations: Durations, now: float) -> Plan:
    """Of the rollout that an order has just left in ``state`` (core.begin)."""
    here = Situation(state, observed, now, Draft(observed.busy))
    return Plan(
        state=state,
        forecast=forecast(state, observed, durations, now),
        durations=durations,
        basis=basis(state, observed, now),
        ttl=publication.patience(here) if here.observed.dns else 0.0,
        open={name: server.open for name, server in observed.balancer.servers.items()},
    )
