"""What an order changes at once: the app's desired state and the new rollout, or the clear reason why not.

Called by core.admission under the app's lock; pure, so that every refusal has a test without a server."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from rota.core import order as o
from rota.core.change import Change, bare, one_generation, plain_policy, policies
from rota.core.container import PullPolicy
from rota.core.errors import Conflict, DomainTaken, NotFound, PortTaken, UsageError
from rota.core.names import rollout_id
from rota.core.policy import Policy, rescaled
from rota.core.record import record
from rota.core.rollout import Cause, Kind, Phase, Rollout, SlotTarget
from rota.core.spec import AppSpec, FailureAction, Mode, Order, Strategy
from rota.core.state import AppState, Desired, Recorded, Release
from rota.core.steps import FinishRollout
from rota.core.tcp import Listener, contested

NOBODY: Mapping[str, Collection[Listener]] = {}
"""No other app listens anywhere."""


def begin(
    state: AppState | None,
    order: o.Order,
    app: str,
    now: float,
    hosts: Mapping[str, str],
    removed: Rollout | None = None,
    listeners: Mapping[str, Collection[Listener]] = NOBODY,
) -> AppState:
    """The app's state with the order's rollout in it. ``hosts`` maps the keys of every other app's sites to that app;
    ``removed`` is the last rollout of an app of this name that is no more. ``listeners`` are every other app's.

    Raises NotFound, Conflict, DomainTaken, PortTaken, UsageError."""
    if isinstance(order, o.Deploy):
        if order.spec.name != app:
            raise UsageError(f"the file describes {order.spec.name!r}, not {app!r}")
        _refuse_taken(order.spec, hosts)
        _refuse_contested(order.spec, listeners)
        free = _unborn(order, app, removed) if state is None else _free(state, order.supersede, now)
        return _deploy(free, order, now)
    if state is None:
        raise NotFound(f"there is no app {app!r}; rota ls lists them")
    if isinstance(order, o.Scale) and state.recorded.running_rollout is not None:
        return _scaled_meanwhile(state, order)
    state = _free(state, order.supersede, now)
    match order:
        case o.Scale():
            return _scale(state, order, now)
        case o.Stop():
            desired = replace(_to_start_again(state), running=False, remove_stopped=order.remove)
            return _uncounted(replace(state, desired=desired), Kind.STOP, now)
        case o.Start():
            if state.desired.running:
                raise Conflict(f"{app} is not stopped")
            return _uncounted(replace(state, desired=replace(state.desired, running=True)), Kind.START, now)
        case o.Remove():
            desired = replace(state.desired, running=False, remove_stopped=True, removed=True)
            return _uncounted(replace(state, desired=desired), Kind.REMOVE, now)
        case _:
            return rolling(state, _change(state, order, now), now)


def _free(state: AppState, supersede: bool, now: float) -> AppState:
    """The state with no rollout under way; one that is gives way, or is named in the refusal."""
    if state.desired.removed:
        raise Conflict(f"{state.name} is being removed")
    running = state.recorded.running_rollout
    if running is None:
        return state
    if not supersede:
        way_out = "wait for it, abort it, or give --supersede"
        raise Conflict(f"{running.id} ({running.kind.value}) is under way; {way_out}", rollout=running.id)
    return _superseded(state, now)


def given_way(before: AppState, after: AppState, now: float) -> AppState | None:
    """``before`` with its rollout ended, when an order's other rollout took its place: the history keeps its end."""
    running, following = before.recorded.running_rollout, after.recorded.rollout
    if running is None or following is None or running.id == following.id:
        return None
    return _superseded(before, now)


def _superseded(state: AppState, now: float) -> AppState:
    end = FinishRollout("superseded", Phase.CANCELLED, Cause.SUPERSEDED, "another order took its place", ())
    return record(state, end, now)


def _deploy(state: AppState, order: o.Deploy, now: float) -> AppState:
    number, state = _release_for(state, order, now)
    current = state.desired.current
    same = number == current.release and state.desired.running
    generation = current.min_generation if same else state.recorded.next_generation
    target = SlotTarget(number, generation, order.spec.limits, weights=order.spec.weights)
    return rolling(state, Change(Kind.DEPLOY, target, order.policy, order.spec, order.spec.replicas), now)


def _refuse_taken(spec: AppSpec, hosts: Mapping[str, str]) -> None:
    for index, entry in enumerate(spec.domains):
        for site, key in entry.sites():
            if site.key in hosts:
                raise _taken(site.key, hosts[site.key], spec.name, ".".join(map(str, ("domains", index, *key))))
    for site in spec.sites:  # <name>.localhost, which the file does not name
        if site.key in hosts:
            raise _taken(site.key, hosts[site.key], spec.name, "name")


def _refuse_contested(spec: AppSpec, listeners: Mapping[str, Collection[Listener]]) -> None:
    for index, ours in enumerate(spec.listeners):
        for owner, theirs in listeners.items():
            what = contested(ours, theirs)
            if what is not None:
                key = f"ports.{index}.{'sni' if ours.names else 'listen'}"
                raise PortTaken(f"{what} belongs to the app {owner!r}; give {spec.name!r} another one", key)


def _taken(site: str, owner: str, app: str, key: str) -> DomainTaken:
    return DomainTaken(f"the domain {site} belongs to the app {owner!r}; give {app!r} another one", key)


def _unborn(order: o.Deploy, app: str, removed: Rollout | None) -> AppState:
    """The state of an app of which nothing is there yet: it is not running and has no release. The names of replicas
    and rollouts go on after those of an earlier app of that name: none is used twice."""
    desired = Desired(order.spec.replicas, SlotTarget(0, 0, order.spec.limits), running=False)
    recorded = Recorded()
    if removed is not None:
        recorded = Recorded(next_replica=removed.next_replica, next_generation=removed.generation + 1)
    return AppState(app, desired, recorded, {})


def _release_for(state: AppState, order: o.Deploy, now: float) -> tuple[int, AppState]:
    """The release that is the same file and the same tree as the current one, else a new one; an image that is to be
    pulled always may be another by now. Other weights alone are the balancer's, not the replicas': the release stays,
    with the file that has them."""
    current = state.releases.get(state.desired.current.release)
    moves = order.spec.image is not None and order.spec.image.pull is PullPolicy.ALWAYS
    if (
        current is not None
        and not moves
        and (_unweighed(current.spec), current.source)
        == (
            _unweighed(order.spec),
            order.source,
        )
    ):
        kept = {**state.releases, current.number: replace(current, spec=order.spec)}
        return current.number, state if current.spec == order.spec else replace(state, releases=kept)
    number = state.recorded.next_release
    rollout = rollout_id(state.name, state.recorded.next_generation)
    releases = {**state.releases, number: Release(number, order.spec, order.source, now, rollout)}
    return number, replace(state, releases=releases, recorded=replace(state.recorded, next_release=number + 1))


def _unweighed(spec: AppSpec) -> AppSpec:
    return spec.model_copy(update={"weights": ()})


def _change(state: AppState, order: o.Restart | o.Redeploy | o.Rollback | o.ChangeLimits, now: float) -> Change:
    if not state.desired.running:
        raise Conflict(f"{state.name} is stopped; rota start {state.name} starts it")
    current, generation = state.desired.current, state.recorded.next_generation
    spec = state.releases[current.release].spec
    count = state.desired.replicas
    match order:
        case o.Restart():
            target = replace(current, min_generation=generation)
            return Change(Kind.RESTART, target, order.policy, spec, count, same_release=True)
        case o.Redeploy():
            target = replace(current, min_generation=generation)
            return Change(Kind.REDEPLOY, target, order.policy, spec, count)
        case o.Rollback():
            return _rollback(state, order, now)
        case _:
            by_rollout = order.policy.order is not None or order.policy.mode is Mode.SIMULTANEOUS
            least = generation if by_rollout else current.min_generation
            target = SlotTarget(current.release, least, order.applied_to(current.limits), weights=current.weights)
            return Change(Kind.LIMITS, target, order.policy, spec, count, same_release=True)


def _rollback(state: AppState, order: o.Rollback, now: float) -> Change:
    """Its policy is that of the file in force. To the release that a switch left running it is one switch back, unless
    another way is asked for by name."""
    current, kept = state.desired.current, state.desired.standby
    spec, count = state.releases[current.release].spec, state.desired.replicas
    by_name = order.policy.mode is not None or order.policy.order not in (None, Order.START_FIRST)
    if kept is not None and now < kept.until and order.release in (None, kept.target.release) and not by_name:
        switching = spec.model_copy(update={"deployment_strategy": Strategy.BLUE_GREEN})
        return Change(Kind.ROLLBACK, kept.target, order.policy, switching, count, instant=True)
    gone = _gave_way(state)
    if order.release is None and gone is not None and gone.to_release != current.release:
        return Change(Kind.ROLLBACK, current, order.policy, spec, count)  # back from what was half done
    release = state.releases[_earlier(state, order.release)]
    generation, limits = state.recorded.next_generation, release.spec.limits
    target = SlotTarget(release.number, generation, limits, weights=release.spec.weights)
    return Change(Kind.ROLLBACK, target, order.policy, spec, count)


def reverting(state: AppState, last: Rollout, now: float) -> Rollout | None:
    """The rollout back from a deploy that succeeded and failed soon after; paused at once where its failure action is
    to ask a person. None when there is nothing to go back to."""
    former, failure = last.from_release, last.failures[-1]
    away = state.desired.current == last.target and state.desired.running
    if former is None or former not in state.releases or former == last.to_release or not away:
        return None
    change = _rollback(state, o.Rollback(release=former), now)
    try:
        after = rolling(state, change, now)
    except UsageError:  # its section asks for what the number of replicas does not allow any more
        after = rolling(state, replace(change, spec=bare(change.spec)), now)
    rollout = after.recorded.rollout
    assert rollout is not None  # rolling leaves one
    why = f"{failure.replica} of release {last.to_release}: {failure.detail}"
    asks = last.policy.failure_action is FailureAction.PAUSE
    return replace(rollout, cause=failure.cause, detail=why, pause_asked=asks)


def _earlier(state: AppState, wanted: int | None) -> int:
    current, kept = state.desired.current.release, ", ".join(map(str, sorted(state.releases)))
    if wanted is not None:
        if wanted not in state.releases:
            raise NotFound(f"{state.name} has no release {wanted}; kept are {kept}")
        return wanted
    if state.release_before is not None:
        return state.release_before
    if min(state.releases) == current:
        raise NotFound(f"{state.name} has no release before {current} to go back to")
    raise NotFound(f"{state.name} has no release before {current} that served; kept are {kept}")


def rolling(state: AppState, change: Change, now: float) -> AppState:
    """A rollout that takes slots up. With nothing running before, all slots are taken up at once."""
    desired, generation = state.desired, state.recorded.next_generation
    fresh = not desired.running
    policy, back = policies(state, change)
    target = change.target if change.instant else replace(change.target, colour=_colour(desired, policy))
    rollout = Rollout(
        id=rollout_id(state.name, generation),
        app=state.name,
        kind=change.kind,
        generation=generation,
        policy=policy,
        created_at=now,
        way_back=back,
        target=target,
        before=desired.slots,
        before_current=desired.current if desired.current.release else None,
        before_replicas=desired.replicas,
        fresh=fresh,
        from_release=desired.current.release or None,
        to_release=target.release,
        progress_at=now,
    )
    current = target if fresh else desired.current
    desired = replace(desired, replicas=change.replicas, running=True, current=current, standby=None)
    return _ordered(replace(state, desired=desired), rollout)


def _to_start_again(state: AppState) -> Desired:
    """A stop leaves nothing of a rollout that gave way to it: what that had taken up starts again as what it was. Where
    two generations may not run at once all slots start alike, those that are added later as well: else one would wait
    for the other for ever."""
    gone = _gave_way(state)
    slots = gone.before if gone is not None else state.desired.slots
    return replace(state.desired, slots={} if one_generation(state) else slots)


def _gave_way(state: AppState) -> Rollout | None:
    """The rollout over slots that the present order has superseded."""
    last = state.recorded.rollout
    return last if last is not None and last.cause is Cause.SUPERSEDED and last.target is not None else None


def _colour(desired: Desired, policy: Policy) -> int:
    """The pool that new replicas enter: for a switch one in which nobody is to stay."""
    if not policy.switch:
        return desired.current.colour
    taken = {desired.current.colour, *(slot.colour for slot in desired.slots.values())}
    return min(set(range(len(taken) + 1)) - taken)


def _scaled_meanwhile(state: AppState, order: o.Scale) -> AppState:
    """The count may change during a rollout, which then covers the new number of slots; it stays when a rollout that
    takes slots up turns back."""
    if not state.desired.running:
        raise Conflict(f"{state.name} is stopped or about to be")
    recorded, count = state.recorded, state.desired.replicas
    rollout = recorded.rollout
    if rollout is not None and rollout.target is not None:
        back = rescaled(rollout.way_back, count, order.replicas) if rollout.way_back is not None else None
        policy = rescaled(rollout.policy, count, order.replicas)
        rollout = replace(rollout, before_replicas=order.replicas, policy=policy, way_back=back)
    desired = replace(state.desired, replicas=order.replicas)
    return replace(state, desired=desired, recorded=replace(recorded, rollout=rollout))


def _scale(state: AppState, order: o.Scale, now: float) -> AppState:
    if not state.desired.running:
        raise Conflict(f"{state.name} is stopped; rota start {state.name} starts it")
    scaled = replace(state, desired=replace(state.desired, replicas=order.replicas))
    return _uncounted(scaled, Kind.SCALE, now, before_replicas=state.desired.replicas)


def _uncounted(state: AppState, kind: Kind, now: float, before_replicas: int = 0) -> AppState:
    """A rollout that takes no slot up: it is over when the app is as it is to be."""
    recorded, current = state.recorded, state.desired.current.release
    rollout = Rollout(
        id=rollout_id(state.name, recorded.next_generation),
        app=state.name,
        kind=kind,
        generation=recorded.next_generation,
        policy=plain_policy(state),
        created_at=now,
        before_replicas=before_replicas or state.desired.replicas,
        from_release=current,
        to_release=current,
        progress_at=now,
    )
    return _ordered(state, rollout)


def _ordered(state: AppState, rollout: Rollout) -> AppState:
    rollout = replace(rollout, next_replica=state.recorded.next_replica)
    recorded = replace(state.recorded, rollout=rollout, next_generation=rollout.generation + 1)
    return replace(state, recorded=recorded)
