"""What the engine's inspection of a container means: the replica that it is; pure but for the clock's reading."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from rota.adapters.clock import SystemClock
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.limits import in_force
from rota.adapters.runtime.docker.reruns import Standing
from rota.core.observation import Address, Exit, ObservedReplica, RunState
from rota.core.spec import Limits

_NEVER = "0001-01-01T00:00:00Z"  # the engine's word for a moment that has not come
_SIGNALLED = 128  # what runc adds to the number of the signal that ended a process


@dataclass(frozen=True)
class Inspection:
    """An answer of GET /containers/{id}/json."""

    raw: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.raw["Id"])

    @property
    def name(self) -> str:
        return str(self.raw["Name"]).lstrip("/")

    @property
    def labels(self) -> Mapping[str, str]:
        return self.raw["Config"].get("Labels") or {}

    @property
    def host_config(self) -> Mapping[str, Any]:
        return dict(self.raw["HostConfig"])

    @property
    def running(self) -> bool:
        """A paused one runs too."""
        return bool(self._state["Running"])

    @property
    def paused(self) -> bool:
        return bool(self._state["Paused"])

    @property
    def created_only(self) -> bool:
        """Never started: what a crash between the two calls leaves."""
        return bool(self._state["Status"] == "created")

    @property
    def dead(self) -> bool:
        """The engine could not remove all of it, and tries again at its next start: nothing more can be done with it
        now."""
        return bool(self._state.get("Dead"))

    @property
    def pid(self) -> int:
        """Of the main process on the engine's machine; 0 while it does not run."""
        return int(self._state["Pid"])

    @property
    def exit_code(self) -> int:
        """Of its last run; 0 of one that runs."""
        return int(self._state["ExitCode"])

    @property
    def created(self) -> str:
        """By the engine's clock."""
        return str(self.raw["Created"])

    @property
    def started(self) -> str:
        """When the present or last run began, by the engine's clock."""
        started = str(self._state["StartedAt"])
        return started if started != _NEVER else str(self.raw["Created"])

    @property
    def run(self) -> str:
        return f"{self.id[:12]}/{self.started}"

    @property
    def networks(self) -> Mapping[str, Mapping[str, Any]]:
        """Its place in each network that it is connected to, by the network's name."""
        return self.raw["NetworkSettings"].get("Networks") or {}

    def address_in(self, network: str) -> str | None:
        """Its present address there; None when it has none."""
        return (self.networks.get(network) or {}).get("IPAddress") or None

    def has_address(self, network: str, address: str) -> bool:
        """It was put at that address there, whether it runs or not."""
        place = self.networks.get(network) or {}
        return address in (place.get("IPAddress"), (place.get("IPAMConfig") or {}).get("IPv4Address"))

    def ended(self, clock: SystemClock) -> Exit | None:
        if self.running:
            return None
        started, finished = clock.at_wall(self.started), str(self._state["FinishedAt"])
        if self.created_only or finished == _NEVER:
            return Exit(at=started)
        code, oom = self.exit_code, bool(self._state["OOMKilled"])
        number = code - _SIGNALLED
        if 0 < number < signal.NSIG:
            return Exit(at=max(started, clock.at_wall(finished)), signal=number, oom=oom)
        return Exit(at=max(started, clock.at_wall(finished)), code=code, oom=oom)

    @property
    def _state(self) -> Mapping[str, Any]:
        return dict(self.raw["State"])


@dataclass(frozen=True)
class Capability:
    """What the engine can do about limits (GET /info)."""

    memory: bool = True
    cpus: bool = True
    processors: int = 1
    swap: bool = True
    pids: bool = True

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Self:
        return cls(
            memory=bool(info.get("MemoryLimit", True)),
            cpus=bool(info.get("CpuCfsQuota", True)),
            processors=int(info.get("NCPU") or 1),
            swap=bool(info.get("SwapLimit", True)),
            pids=bool(info.get("PidsLimit", True)),
        )

    def enforces(self, limits: Limits) -> bool:
        return (limits.memory is None or self.memory) and (limits.cpus is None or self.cpus)

    def seen_as(self, limits: Limits, asked: Limits) -> Limits:
        """What a kernel cannot do is not in force, and to ask for it once more would change nothing."""
        memory = limits.memory if self.memory else asked.memory
        return Limits.model_construct(memory=memory, cpus=limits.cpus if self.cpus else asked.cpus)


def observed(
    seen: Inspection,
    labels: Labels,
    standing: Standing,
    asked: Limits,
    capability: Capability,
    clock: SystemClock,
    *,
    network: str,
    told_to_stop: bool,
    ended: bool,
    unwatched: bool,
) -> ObservedReplica:
    """The container as the engine sees it; ``ended``: the kernel says that this run is over, which the engine does not
    yet. ``unwatched``: the run ended while there was no engine, so that nobody knows how. One that runs without its
    address in the own network has none."""
    reachable = not seen.running or seen.address_in(network) == labels.address
    exit_ = seen.ended(clock)
    limits = capability.seen_as(in_force(seen.host_config, asked), asked)
    return ObservedReplica(
        id=labels.replica,
        app=labels.app,
        slot=labels.slot,
        release=labels.release,
        generation=standing.generation,
        state=RunState.RUNNING if seen.running and not ended else RunState.EXITED,
        run=seen.run,
        started_at=clock.at_wall(seen.started),
        address=Address(labels.address, labels.port) if reachable else None,
        exit=Exit(exit_.at) if exit_ is not None and unwatched else exit_,
        limits=limits,
        limits_enforced=capability.enforces(limits),
        restarts=standing.restarts,
        told_to_stop=told_to_stop,
    )
