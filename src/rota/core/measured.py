"""What an app's events show of how long its replicas take, and rota's own calls: durations as they were.

Called by engine.measuring with the store's events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TypeVar, get_args

from rota.core.durations import Durations, Length, shared
from rota.core.events import Event, EventKind
from rota.core.observation import Reloads
from rota.core.spec import AppSpec
from rota.core.state import Release
from rota.core.steps import BalancerStep

NEWEST = 15  # of each duration, the newest ones: an app changes
ONE_START = 2.0  # cores that an engine keeps busy with one start: itself, containerd, shim and runc beside each other
_STARTS = frozenset({"StartReplica", "RestartReplica"})
_GONE = frozenset({"RemoveServer", "RestartReplica", "RemoveReplica"})
_TOLD = frozenset(step.__name__ for step in get_args(BalancerStep)) - {"PrepareBackend"}
_AFTER_ENABLE = frozenset(
    {"RouteApp", "PublishRecords", "WithdrawRecords", "DrainServer", "DisableServer", "FinishSlot"}
)

_Key = TypeVar("_Key", bound=int | str)
_Value = TypeVar("_Value")
_Wave = Sequence[float]
"""How long each took of those that began at one moment."""


@dataclass(frozen=True)
class _Step:
    at: float
    name: str
    replica: str | None
    rollout: str | None
    healthy_for: float | None = None
    waited: float | None = None
    running_for: float | None = None


_Pair = tuple[_Step, _Step]


@dataclass(frozen=True)
class Measured:
    """What events show of each duration, the newest last; of boots and stops by how many there were at once."""

    boot: Mapping[int, Sequence[_Wave]] = field(default_factory=dict)
    stop: Mapping[int, Sequence[_Wave]] = field(default_factory=dict)
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
        def as_given(length: Length) -> Length:
            return length.model_copy(update={"of": 0}) if guessed else length

        found: dict[str, object] = {name: as_given(_one(values)) for name, values in self.others.items() if values}
        for name, by_number in {"boot": self.boot, "stop": self.stop}.items():
            if by_number:
                found[name] = {together: as_given(_of_waves(waves)) for together, waves in by_number.items()}
        return found


def measured(events: Iterable[Event], releases: Mapping[int, Release], cores: float = 1.0) -> Measured:
    """``events`` of one app, oldest first, on a machine of so many cores."""
    steps = [
        _Step(event.at, event.step, event.replica, event.rollout, event.healthy_for, event.waited, event.running_for)
        for event in events
        if event.step is not None and event.kind is not EventKind.STEP_FAILED
    ]
    told = Counter(step.at for step in steps if step.name in _TOLD)
    enabled = _shares(_enabled(steps), told)
    disable = median(enabled[-NEWEST:]) if enabled else Durations().enable.seconds
    drains = _of_replicas(steps, {"DisableServer"}, {"StopReplica"})
    gone = _of_replicas(steps, {"RemoveServer"}, {"RemoveReplica"})
    others = {
        "drain": [last.at - first.at - disable * told[first.at] for first, last in drains],
        "prepare": _prepared(steps),
        "enable": enabled,
        "call": [last.at - first.at - disable * (told[first.at] - 1) for first, last in gone],
        "remove": _removed(steps),
    }
    return Measured(_boots(steps, releases, cores), _stops(steps), others)


def _one(values: Sequence[float]) -> Length:
    newest = values[-NEWEST:]
    return Length(seconds=max(0.0, median(newest)), of=len(newest))


def _of_waves(waves: Sequence[_Wave]) -> Length:
    """As many of the newest as have NEWEST together. A wave is over when its last one is."""
    newest: list[_Wave] = []
    for wave in reversed(waves):
        newest.append(wave)
        if sum(map(len, newest)) >= NEWEST:
            break
    first, last = (max(0.0, median(map(of, newest))) for of in (min, max))
    return Length(seconds=last, first=first, of=sum(map(len, newest)))


def _shares(pairs: Sequence[_Pair], told: Mapping[float, int]) -> list[float]:
    """Of each call on HAProxy, which was told so many things at its moment. Whoever looks at HAProxy waits for all of
    them, and so does the next step."""
    return [(last.at - first.at) / told[first.at] for first, last in pairs]


def _enabled(steps: Sequence[_Step]) -> list[_Pair]:
    """Each with what its rollout then does at once: a repair does nothing, and a slow start waits."""
    slow = {step.rollout for step in steps if step.name == "SetWeight"} | {None}
    return _of_rollouts([step for step in steps if step.rollout not in slow], "EnableServer", _AFTER_ENABLE)


def _removed(steps: Sequence[_Step]) -> list[float]:
    """Those that a rollout's end waited for: on Docker others have the next replica's start beside them."""
    after = _of_rollouts(steps, "RemoveReplica", {step.name for step in steps})
    return [last.at - first.at for first, last in after if last.name == "FinishRollout"]


def _joined(
    first: Mapping[_Key, Sequence[_Value]], later: Mapping[_Key, Sequence[_Value]]
) -> dict[_Key, Sequence[_Value]]:
    return {name: [*first.get(name, ()), *later.get(name, ())] for name in (*first, *later)}


def _stops(steps: Sequence[_Step]) -> dict[int, list[_Wave]]:
    found: dict[int, list[_Wave]] = {}
    for together, wave in _waves(_of_replicas(steps, {"StopReplica"}, _GONE)):
        found.setdefault(together, []).append(_lasted(wave))
    return found


def _boots(steps: Sequence[_Step], releases: Mapping[int, Release], cores: float) -> dict[int, list[_Wave]]:
    """An arrival takes the boot and what the file asks for beyond it. In a first deploy it takes what a reload of
    HAProxy does beside the boots as well: such a boot, as the checks saw it, counts where there is nothing better. What
    one alone would have taken counts where none was seen."""
    reloaded = {step.rollout for step in steps if step.name == "PrepareBackend"}
    plain: dict[int, list[_Wave]] = {}
    beside_reload: dict[int, list[_Wave]] = {}
    alone: list[_Wave] = []
    for together, wave in _waves(_of_replicas(steps, _STARTS, {"EnableServer"})):
        spec = _spec_at(releases, wave[0][0].rollout)
        healthy_for = [last.healthy_for for _, last in wave if last.healthy_for is not None]
        if wave[0][0].rollout in reloaded and len(healthy_for) == len(wave) and not (spec and spec.warm_up.requests):
            took = [length - since for length, since in zip(_lasted(wave), healthy_for, strict=True)]
            beside_reload.setdefault(together, []).append(took)
        else:
            settled = settling(spec) if spec else 0.0
            took = [length - settled for length in _lasted(wave)]
            plain.setdefault(together, []).append(took)
        one = _alone(wave, took, shared(together * min(cores, ONE_START), cores))
        alone += [[one]] if one is not None else []
    return ({1: alone} if alone else {}) | beside_reload | plain


def _alone(wave: Sequence[_Pair], took: Sequence[float], share: float) -> float | None:
    """What one of these boots would have taken by itself: the runtime its part of what all of these starts took it, and
    then the replica what it did not wait for a core. None where nobody saw that."""
    starts, boots = [], []
    for (first, last), length in zip(wave, took, strict=True):
        if last.waited is not None:
            start = last.at - first.at - last.running_for if last.running_for is not None else 0.0
            starts.append(min(max(start, 0.0), length))
            boots.append(length - starts[-1] - last.waited)
    return max(starts) / share + max(0.0, min(boots)) if boots else None


def _waves(pairs: Sequence[_Pair]) -> list[tuple[int, list[_Pair]]]:
    """Those that began at one moment, some milliseconds apart: before the first of them was half-way; with how many
    were under way half-way through one of them, at most, those of other moments too."""
    waves: list[list[_Pair]] = []
    for pair in sorted(pairs, key=lambda pair: pair[0].at):
        if not waves or pair[0].at > _middle(waves[-1][0]):
            waves.append([])
        waves[-1].append(pair)
    return [(max(_under_way(_middle(pair), pairs) for pair in wave), wave) for wave in waves]


def _middle(pair: _Pair) -> float:
    return (pair[0].at + pair[1].at) / 2


def _under_way(at: float, pairs: Sequence[_Pair]) -> int:
    return sum(first.at <= at <= last.at for first, last in pairs)


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
    return _lasted(_of_rollouts(clean, "PrepareRelease", after) or _of_rollouts(steps, "PrepareRelease", after))


def _first_deploys(steps: Sequence[_Step]) -> set[str | None]:
    """The rollouts that start replicas before they take slots up, as nobody serves yet."""
    earliest: dict[str | None, str] = {}
    for step in steps:
        if step.name in {"TakeSlot", "StartReplica"}:
            earliest.setdefault(step.rollout, step.name)
    return {rollout for rollout, name in earliest.items() if name == "StartReplica"}


def _lasted(pairs: Sequence[_Pair]) -> list[float]:
    return [last.at - first.at for first, last in pairs]


def _of_replicas(steps: Sequence[_Step], first: Set[str], later: Set[str]) -> list[_Pair]:
    return _pairs(steps, first, later, lambda step: step.replica)


def _of_rollouts(steps: Sequence[_Step], first: str, later: Set[str]) -> list[_Pair]:
    """Each ``first`` with the next of ``later`` in the same rollout, whatever it is about."""
    return _pairs(steps, {first}, later, lambda step: step.rollout)


def _pairs(
    steps: Sequence[_Step], first: Set[str], later: Set[str], about: Callable[[_Step], str | None]
) -> list[_Pair]:
    """Each of ``first`` with the next of ``later`` about the same, in the order of their ends."""
    begun: dict[str | None, _Step] = {}
    found = []
    for step in steps:
        if step.name in first:
            begun[about(step)] = step
        elif step.name in later and about(step) in begun:
            found.append((begun.pop(about(step)), step))
    return found
