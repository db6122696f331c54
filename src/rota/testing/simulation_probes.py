"""What the daemon's probes of a simulation see: worked out from what was ordered of each replica; asked by the
simulation at each look."""

from __future__ import annotations

from collections.abc import Mapping

from rota.core.names import ReplicaId
from rota.core.observation import ObservedReplica, ProbeHistory, RunState
from rota.engine.probing import Probed
from rota.testing.runtime import FakeRuntime

ROUNDING = 1e-6  # of a check's interval

Ill = Mapping[ReplicaId, tuple[float, float]]
"""From when until when a replica's health check fails, whatever was ordered of it."""


class SimulatedProbes:
    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self._looked: dict[ReplicaId, tuple[Probed, float]] = {}

    def forget(self) -> None:
        """As a daemon does that ends."""
        self._looked.clear()

    def look(self, probed: Mapping[ReplicaId, Probed], ill: Ill, because: str) -> dict[ReplicaId, ProbeHistory]:
        looked = {}
        for name, one in probed.items():
            before = self._looked.get(name)
            again = before is not None and before[0].replica.run == one.replica.run
            looked[name] = (one, before[1] if before is not None and again else self._now)
        self._looked = looked
        return {name: self._history(one, since, ill, because) for name, (one, since) in looked.items()}

    def moments(self, replicas: Mapping[ReplicaId, ObservedReplica], ill: Ill) -> list[float]:
        """When they will have seen something new."""
        moments: list[float] = []
        for name, (probed, since) in self._looked.items():
            seen, check = replicas.get(name), probed.spec.check
            if seen is None or seen.state is not RunState.RUNNING:
                continue
            accepts, healthy = self._firsts(seen, since, ill)
            moments += [at for at in (accepts, healthy) if at is not None]
            if check.by_daemon:
                begun = max(accepts or 0.0, ill.get(name, (0.0, 0.0))[0])
                moments.append(begun + (check.fall - 1) * check.interval)
            if healthy is not None:
                moments.append(healthy + (check.rise - 1) * check.start_interval)
        return moments

    @property
    def _now(self) -> float:
        return self._runtime.clock.now()

    def _history(self, probed: Probed, since: float, ill: Ill, because: str) -> ProbeHistory:
        seen, check = probed.replica, probed.spec.check
        accepts, healthy = self._firsts(seen, since, ill)
        if accepts is None or self._now < accepts:
            return ProbeHistory(seen.run, since, last_failure="connection refused")
        ill_since, ill_until = ill.get(seen.id, (0.0, 0.0))
        if healthy is None or self._now < healthy or ill_since <= self._now < ill_until:
            begun = max(accepts, ill_since) if ill_since <= self._now < ill_until else accepts
            fails = int((self._now - begun) / _apart(probed) + ROUNDING) + 1
            failure = because or "HTTP 503"
            return ProbeHistory(seen.run, since, accepts, last_failure=failure, fails=min(fails, check.fall))
        passes = int((self._now - healthy) / check.start_interval + ROUNDING) + 1
        return ProbeHistory(seen.run, since, accepts, min(passes, check.rise), healthy, warmed=1000)

    def _firsts(self, seen: ObservedReplica, since: float, ill: Ill) -> tuple[float | None, float | None]:
        """When a probe that began at ``since`` sees it accept, and pass its first check."""
        faults = self._runtime.faults_of(seen.id)
        if faults.listens_after is None:
            return None, None
        accepts = max(since, seen.started_at + faults.listens_after)
        if faults.healthy_after is None:
            return accepts, None
        healthy = max(accepts, seen.started_at + faults.healthy_after)
        ill_since, ill_until = ill.get(seen.id, (0.0, 0.0))
        return accepts, max(healthy, ill_until) if self._now >= ill_since else healthy


def _apart(probed: Probed) -> float:
    return probed.spec.check.interval if probed.served else probed.spec.check.start_interval
