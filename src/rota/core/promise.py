"""What a plan promises: what it rests on, whether that still holds when it is carried out, and what was done beyond it.

Called by core.plan when a plan is made, by engine.planner when one comes back with its order, by core.record for each
step, and for the receipt."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import TypeAdapter

from rota.core import steps as s
from rota.core.errors import StalePlan
from rota.core.member import Member
from rota.core.observation import Observation
from rota.core.order import SavedPlan
from rota.core.policy import Policy
from rota.core.rollout import Promise
from rota.core.situation import Draft, Situation
from rota.core.state import AppState

BEYOND_KEPT = 1000  # of one rollout: a paused one may try a slot for weeks

_POLICY = TypeAdapter(Policy)
_REPLICA_STEPS = frozenset(kind.__name__ for kind in s.STEP_TYPES if issubclass(kind, s.ReplicaStep))

_SAID = {
    "app": "the app",
    "kind": "the order",
    "source": "the source has changed",
    "limits": "the limits",
    "wanted": "the number of replicas",
}


def basis(state: AppState, observed: Observation, now: float) -> dict[str, Any]:
    """What the plan of the rollout that an order has just left in ``state`` rests on, as JSON has it. The file and its
    values are there as digests: its environment may hold secrets."""
    rollout = state.recorded.rollout
    assert rollout is not None  # every order leaves one
    release = state.releases.get(rollout.to_release or 0)
    members = Situation(state, observed, now, Draft(frozenset())).members.values()
    return {
        "app": state.name,
        "kind": rollout.kind.value,
        "file": {key: _digest(value) for key, value in release.spec.model_dump(mode="json").items()} if release else {},
        "source": release.source if release else None,
        "releases": {"from": rollout.from_release, "to": rollout.to_release},
        "limits": rollout.target.limits.written() if rollout.target else None,
        "wanted": state.desired.replicas,
        "replicas": {member.id: _shown(member) for member in members},
        "policy": _POLICY.dump_python(rollout.policy, mode="json"),
    }


def in_words(step: s.Step | s.ReplicaStep) -> str:
    """``StartReplica web-1``, ``TakeSlot 2``, ``RouteApp``."""
    about = getattr(step, "replica", getattr(step, "slot", getattr(step, "release", "")))
    return f"{type(step).__name__} {about}".strip()


def check(saved: SavedPlan, resting_on: Mapping[str, Any], steps: Sequence[str]) -> None:
    """``resting_on`` and ``steps`` are those of a plan of the same order made now, with the durations of the saved
    one. Raises StalePlan, naming what differs."""
    found = _differences(saved.basis, resting_on) or _other_steps(saved.steps, steps)
    if found:
        raise StalePlan(f"stale plan: {'; '.join(found)}. Look at what would happen now: rota plan")


def promise(planned: Iterable[str]) -> Promise:
    """What the steps of a plan say of replicas; nothing is done yet."""
    return Promise(Counter(words for words in planned if words.partition(" ")[0] in _REPLICA_STEPS))


def kept(promise: Promise, step: s.ReplicaStep) -> Promise:
    """The promise once ``step`` is done. Counted step by step: events are not kept as long as rollouts are."""
    words = in_words(step)
    left = promise.open.get(words, 0)
    if left:
        others = {known: count for known, count in promise.open.items() if known != words}
        return replace(promise, open=others | {words: left - 1} if left > 1 else others)
    if words in promise.beyond:
        return promise
    if len(promise.beyond) >= BEYOND_KEPT:
        return replace(promise, more=promise.more + 1)
    return replace(promise, beyond=(*promise.beyond, words))


def deviations(promise: Promise) -> tuple[str, ...]:
    """What was done to replicas beyond the plan, and what of it was not, once the rollout has ended."""
    more = (f"not planned: {promise.more:,} more",) if promise.more else ()
    beyond = (f"not planned: {words}" for words in promise.beyond)
    return (*beyond, *more, *(f"not done: {words}" for words in promise.open))


def _shown(member: Member) -> str:
    serving = "serving" if member.serving else member.phase.value
    return f"release {member.record.release} in slot {member.record.slot}, {serving}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [words for name, value in now.items() for words in _difference(name, then.get(name), value)]


def _difference(name: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    if name == "source":
        return [_SAID[name]]
    if not isinstance(after, Mapping):
        return [f"{_SAID[name]}: {_brief(before)} then, {_brief(after)} now"]
    known = before if isinstance(before, Mapping) else {}
    keys = [key for key in {**known, **after} if known.get(key) != after.get(key)]
    if name == "file":
        return [f"the file has another {', '.join(keys)}"]
    if name == "replicas" and set(known) != set(after):
        return [f"the replicas were {', '.join(known) or 'none'}, and are {', '.join(after) or 'none'}"]
    return [f"{name}: {key} {_brief(known.get(key))} then, {_brief(after.get(key))} now" for key in keys]


def _brief(value: object) -> str:
    return "not there" if value is None else str(value)[:60]


def _other_steps(then: Sequence[str], now: Sequence[str]) -> list[str]:
    """Of each replica, slot and release: what is done with it, in order. Between them the order is a matter of
    milliseconds."""
    before, after = _by_subject(then), _by_subject(now)
    return [
        f"the steps for {about or 'the app'}: {', '.join(before.get(about, ['none']))} then, "
        f"{', '.join(after.get(about, ['none']))} now"
        for about in {**before, **after}
        if before.get(about) != after.get(about)
    ][:3]


def _by_subject(steps: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for words in steps:
        name, _, about = words.partition(" ")
        found.setdefault(about, []).append(name)
    return found
