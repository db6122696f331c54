"""A change of what an app's slots are to run, as an order asks for it, and the policies it is carried out by, there and
back; used by core.begin."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rota.core.errors import UsageError
from rota.core.policy import Policy, rescaled, resolve, way_back
from rota.core.rollout import Kind, SlotTarget
from rota.core.spec import AppSpec, Overlap, RolloutOptions, Strategy
from rota.core.state import AppState


@dataclass(frozen=True)
class Change:
    """What a rolling order asks for, worked out: the target and the policy's ingredients. ``instant``: the target is
    what a switch left running to go back to."""

    kind: Kind
    target: SlotTarget
    options: RolloutOptions
    spec: AppSpec
    replicas: int
    same_release: bool = False
    instant: bool = False


def policies(state: AppState, change: Change) -> tuple[Policy, Policy | None]:
    """Of the way there and, where that differs, of the way back."""
    one = one_generation(state, change.target.release)
    policy = resolve(
        change.spec,
        change.replicas,
        change.options,
        same_release=change.same_release,
        retried=change.kind is Kind.RESTART,
        back=change.kind is Kind.ROLLBACK,
        one_generation=one,
    )
    _refuse_rollback_section(change, policy, one)
    if not state.desired.running:
        return replace(policy, parallelism=change.replicas, delay=0.0, barrier=False, switch=False), None
    if change.target.min_generation != state.recorded.next_generation and not change.instant:
        policy = replace(policy, switch=False)  # no replica is replaced, so there is nothing to switch to
    count, same = state.desired.replicas, change.same_release
    forward = rescaled(policy, change.replicas, count)
    try:
        back = way_back(change.spec, count, change.options, forward, same_release=same, one_generation=one)
    except UsageError:  # what was asked for is meant for another number of replicas than the way back has
        spec, plain = bare(change.spec), _uncounted_by(change.options)
        back = way_back(spec, count, plain, forward, same_release=same, one_generation=one)
    return policy, back if back != policy else None


def _refuse_rollback_section(change: Change, policy: Policy, one: bool) -> None:
    """A way back that cannot be, by the file itself, is refused before anything begins. Raises UsageError."""
    spec, same = change.spec, change.same_release
    try:
        way_back(spec, spec.replicas, RolloutOptions(), policy, same_release=same, one_generation=one)
    except UsageError as error:
        raise UsageError(f"the file's rollback section: {error}") from None


def one_generation(state: AppState, *further: int) -> bool:
    """Whether any release that a slot is to run, or one of these, forbids another beside it; the slots' may be those of
    a rollout that gives way."""
    numbers = {state.desired.current.release, *(slot.release for slot in state.desired.slots.values()), *further}
    return any(state.releases[number].spec.overlap is Overlap.FORBID for number in numbers if number in state.releases)


def plain_policy(state: AppState) -> Policy:
    """The file's own policy, without what could contradict the number of replicas."""
    spec = bare(state.releases[state.desired.current.release].spec)
    return resolve(spec, state.desired.replicas, RolloutOptions(), same_release=True)


def bare(spec: AppSpec) -> AppSpec:
    """The file without what could contradict the number of replicas."""
    there, back = _uncounted_by(spec.rollout_options), _uncounted_by(spec.rollback_options)
    names = {"rollout": there, "update_config": None, "rollback": back, "rollback_config": None}
    return spec.model_copy(update={**names, "deployment_strategy": Strategy.ROLLING})


def _uncounted_by(options: RolloutOptions) -> RolloutOptions:
    """Without what does not go with every number of replicas."""
    return options.model_copy(update={"order": None, "mode": None, "min_available": None})
