"""How long one app's replicas take to boot, drain and stop, and rota's own calls, by what its events show.

Made by engine.measuring from the store's events; believed by core.world."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Annotated, TypeVar

from pydantic import Field

from rota.core.events import Event, EventKind
from rota.core.model import Model
from rota.core.observation import ObservedBalancer, Reloads
from rota.core.spec import AppSpec
from rota.core.state import Release

NOISE = 0.01  # seconds: the end of a drain is looked for no more often (handoff.POLL)
NEWEST = 15  # of each duration, the newest ones: an app changes
_Key = TypeVar("_Key", bound=int | str)
_STARTS = frozenset({"StartReplica", "RestartReplica"})
_GONE = frozenset({"RemoveServer", "RestartReplica", "RemoveReplica"})


class Length(Model):
    """Seconds, by ``of`` measurements; a guess, where there are none."""

    seconds: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    of: int = Field(default=0, ge=0)


ByNumber = Mapping[Annotated[int, Field(ge=1)], Length]


class Durations(Model):
    """``boot``: from a replica's start to its first health check that passes, by how many were starting when it did:
    a machine of few ``cores`` takes longer over several, each of which computes for ``boot_cpu`` seconds at most.
    ``drain``: from the moment at which nobody is sent to a replica any more until nothing is open. ``stop``: from the
    stop signal to its end, by how many were stopping. ``prepare``: a release unpacked and built. ``reload``: a new
    backend in HAProxy, once a reload may begin (core.observation.Reloads). ``enable``: a server into HAProxy's file and
    rotation. ``call``: every other call on HAProxy or the runtime. The guesses for the last two are what the steps of
    an idle machine are apart (bench/rollout_overhead.py)."""

    boot: ByNumber = Field(default={1: Length(seconds=1.0)}, min_length=1)
    drain: Length = Length(seconds=0.0)
    stop: ByNumber = Field(default={1: Length(seconds=0.1)}, min_length=1)
    prepare: Length = Length(seconds=0.5)
    reload: Length = Length(seconds=0.3)
    enable: Length = Length(seconds=0.006)
    call: Length = Length(seconds=0.005)
    boot_cpu: float = Field(default=0.0, ge=0)
    cores: float = Field(default=1.0, gt=0)

    def boot_of(self, together: int) -> Length:
        """Of a replica that is one of so many that start. Where that was never seen it is reckoned from the nearest
        number that was, the one with the longer boot of two: those that are more than the cores share them."""
        known = _nearest(self.boot, together)
        length, share = self.boot[known], self._share(known)
        cpu = min(self.boot_cpu, length.seconds / share)
        return Length(seconds=length.seconds + cpu * (self._share(together) - share), of=length.of)

    def stop_of(self, together: int) -> Length:
        """Of a replica that is one of so many that stop."""
        return self.stop[_nearest(self.stop, together)]

    def _share(self, together: int) -> float:
        """How much longer each of so many computes for having the cores with the others."""
        return max(1.0, together / self.cores)


def _nearest(lengths: ByNumber, together: int) -> int:
    return min(lengths, key=lambda number: (abs(number - together), -lengths[number].seconds))


@dataclass(frozen=True)
class _Step:
    at: float
    name: str
    replica: str | None
    rollout: str | None
    healthy_for: float | None = None


@dataclass(frozen=True)
class Measured:
    """What events show of each duration, the newest last; of boots and stops by how many there were at once."""

    boot: Mapping[int, Sequence[float]] = field(default_factory=dict)
    stop: Mapping[int, Sequence[float]] = field(default_factory=dict)
    others: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def __add__(self, later: Measured) -> Measured:
        return Measured(
            _joined(self.boot, later.boot), _joined(self.stop, later.stop), _joined(self.others, later.others)
        )

    def durations(self, reloads: Reloads, guess: Durations, boot_cpu: float = 0.0, cores: float = 1.0) -> Durations:
        """What nobody has measured stays the guess."""
        lengths = self._lengths()
        if reloads.of:
            lengths["reload"] = Length(seconds=reloads.seconds, of=reloads.of)
        return guess.model_copy(update={**lengths, "boot_cpu": boot_cpu, "cores": cores})

    def as_guess(self) -> Durations:
        """For another app, of which something was never measured. How long its users' requests take these say nothing
        of."""
        others = {name: values for name, values in self.others.items() if name != "drain"}
        return Durations.model_validate(replace(self, others=others)._lengths(guessed=True))

    def _lengths(self, *, guessed: bool = False) -> dict[str, object]:
        def length(values: Sequence[float], together: int = 1) -> Length:
            seconds = max(0.0, _last_of(together, values[-NEWEST:]))
            return Length(seconds=seconds, of=0 if guessed else len(values[-NEWEST:]))

        found: dict[str, object] = {name: length(values) for name, values in self.others.items() if values}
        for name, by_number in {"boot": self.boot, "stop": self.stop}.items():
            if by_number:
                found[name] = {together: length(values, together) for together, values in by_number.items()}
        return found


def measured(events: Iterable[Event], releases: Mapping[int, Release]) -> Measured:
    """``events`` of one app, oldest first."""
    steps = [
        _Step(event.at, event.step, event.replica, event.rollout, event.healthy_for)
        for event in events
        if event.step is not None and event.kind is not EventKind.STEP_FAILED
    ]
    calls = _of_replicas(steps, {"RemoveServer"}, {"RemoveReplica"})
    call = median(calls[-NEWEST:]) if calls else Durations().call.seconds
    others = {
        "drain": [length - call for length in _of_replicas(steps, {"DisableServer"}, {"StopReplica"})],
        "prepare": _prepared(steps),
        "enable": _of_rollouts(steps, "EnableServer", {"DrainServer", "DisableServer", "FinishSlot"}),
        "call": calls,
    }
    return Measured(_boots(steps, releases), _stops(steps), others)


def _last_of(together: int, values: Sequence[float]) -> float:
    """What the longest of so many takes: a wave is over when its last one is. Of one it is the median."""
    ordered = sorted(values)
    place = (len(ordered) - 1) * together / (together + 1)
    low = ordered[int(place)]
    return low + (ordered[math.ceil(place)] - low) * (place % 1)


def open_now(balancer: ObservedBalancer) -> Length:
    """The guess of a drain while none was seen: what is open may go on for as long as answers take to begin."""
    return Length(seconds=max((server.latency for server in balancer.servers.values() if server.open), default=0.0))


def _joined(
    first: Mapping[_Key, Sequence[float]], later: Mapping[_Key, Sequence[float]]
) -> dict[_Key, Sequence[float]]:
    return {name: [*first.get(name, ()), *later.get(name, ())] for name in (*first, *later)}


def _stops(steps: Sequence[_Step]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for first, last, together in _at_once(_pairs(steps, {"StopReplica"}, _GONE, lambda step: step.replica)):
        found.setdefault(together, []).append(last.at - first.at)
    return found


def _boots(steps: Sequence[_Step], releases: Mapping[int, Release]) -> dict[int, list[float]]:
    """An arrival takes the boot and what the file asks for beyond it. In a first deploy it takes what a reload of
    HAProxy does beside the boots as well: such a boot, as the checks saw it, counts where there is nothing better."""
    reloaded = {step.rollout for step in steps if step.name == "PrepareBackend"}
    plain: dict[int, list[float]] = {}
    beside_reload: dict[int, list[float]] = {}
    for first, last, together in _at_once(_pairs(steps, _STARTS, {"EnableServer"}, lambda step: step.replica)):
        spec = _spec_at(releases, first.rollout)
        took, found = last.at - first.at - (settling(spec) if spec else 0.0), plain
        if first.rollout in reloaded and last.healthy_for is not None and not (spec and spec.warm_up.requests):
            took, found = last.at - first.at - last.healthy_for, beside_reload
        found.setdefault(together, []).append(took)
    return beside_reload | plain


def _at_once(pairs: Sequence[tuple[_Step, _Step]]) -> list[tuple[_Step, _Step, int]]:
    """With how many of them were under way half-way through each: those of one moment begin some milliseconds apart."""
    found = []
    for first, last in pairs:
        middle = (first.at + last.at) / 2
        found.append((first, last, sum(other.at <= middle <= end.at for other, end in pairs)))
    return found


def settling(spec: AppSpec) -> float:
    """Seconds from the first health check that passes to readiness."""
    return max((spec.check.rise - 1) * spec.check.start_interval, spec.min_ready_seconds)


def _spec_at(releases: Mapping[int, Release], rollout: str | None) -> AppSpec | None:
    """The file that a rollout's replicas were started by: the newest release that no later rollout made."""
    made = sorted((_generation(release.rollout), number) for number, release in releases.items())
    fitting = [number for generation, number in made if rollout is None or generation <= _generation(rollout)]
    return releases[fitting[-1]].spec if fitting else None


def _generation(rollout: str) -> int:
    return int(rollout.rpartition(".")[2])


def _prepared(steps: Sequence[_Step]) -> list[float]:
    """A first deploy starts its replicas as soon as their release is there. Else, beside a reload of HAProxy, nobody
    knows which of the two was waited for: taken only where there is nothing better."""
    after = {"TakeSlot", "StartReplica"}
    unclear = {step.rollout for step in steps if step.name == "PrepareBackend"} - _first_deploys(steps)
    clean = [step for step in steps if step.rollout not in unclear]
    return _of_rollouts(clean, "PrepareRelease", after) or _of_rollouts(steps, "PrepareRelease", after)


def _first_deploys(steps: Sequence[_Step]) -> set[str | None]:
    """The rollouts that start replicas before they take slots up, as nobody serves yet."""
    earliest: dict[str | None, str] = {}
    for step in steps:
        if step.name in {"TakeSlot", "StartReplica"}:
            earliest.setdefault(step.rollout, step.name)
    return {rollout for rollout, name in earliest.items() if name == "StartReplica"}


def _of_replicas(steps: Sequence[_Step], first: Set[str], later: Set[str]) -> list[float]:
    return [last.at - begun.at for begun, last in _pairs(steps, first, later, lambda step: step.replica)]


def _of_rollouts(steps: Sequence[_Step], first: str, later: Set[str]) -> list[float]:
    """From each ``first`` to the next of ``later`` in the same rollout, whatever it is about."""
    return [last.at - begun.at for begun, last in _pairs(steps, {first}, later, lambda step: step.rollout)]


def _pairs(
    steps: Sequence[_Step], first: Set[str], later: Set[str], about: Callable[[_Step], str | None]
) -> list[tuple[_Step, _Step]]:
    """Each of ``first`` with the next of ``later`` about the same, in the order of their ends."""
    begun: dict[str | None, _Step] = {}
    found = []
    for step in steps:
        if step.name in first:
            begun[about(step)] = step
        elif step.name in later and about(step) in begun:
            found.append((begun.pop(about(step)), step))
    return found
