"""What must hold of DNS at every decision, whatever fails; asked by simulation_rules, raises AssertionError. And the
users that DNS sends past HAProxy, in a simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from rota.core import steps as s
from rota.core.decide import Decision
from rota.core.names import ReplicaId
from rota.core.observation import ObservedDns, ObservedReplica
from rota.core.situation import Situation
from rota.core.state import AppState
from rota.core.steps import dns_subject
from rota.engine.observer import to_watch


def check_dns(here: Situation, decision: Decision) -> None:
    for name, view in here.observed.dns.items():
        if here.desired.active:
            _never_empty(here, decision, name, view)
        for step in decision.steps:
            if isinstance(step, s.DrainServer | s.DisableServer):
                _out_of_caches(here, step, view, _going(here, decision, name))


def users_past_haproxy(
    state: AppState, replicas: Mapping[ReplicaId, ObservedReplica], stays: Callable[[ReplicaId], float], now: float
) -> dict[ReplicaId, int]:
    """One for each replica that leaves, connected until ``stays`` seconds after that."""
    left_at = {name: state.recorded.replicas[name].disabled_at or 0.0 for name in to_watch(state, replicas)}
    return {name: int(now < at + stays(name)) for name, at in left_at.items()}


def _never_empty(here: Situation, decision: Decision, name: str, view: ObservedDns) -> None:
    """No withdrawal takes the last record of a name that the app is to keep."""
    withdrawn = _withdrawn(decision, name)
    assert view.answering or not withdrawn, f"{name} does not answer and is asked"
    for kind in {view.kind(replica) for replica in withdrawn if replica in view.published}:
        of_kind = {replica: shown for replica, shown in view.published.items() if view.kind(replica) == kind}
        _never_empty_of(here, withdrawn & set(of_kind), name, replace(view, published=of_kind))


def _never_empty_of(here: Situation, going: set[ReplicaId], name: str, view: ObservedDns) -> None:
    """Of one type: who asks for A is not helped by AAAA."""
    busy = {replica for replica in view.published if dns_subject(name, replica) in here.observed.busy}
    left = [shown for replica, shown in view.published.items() if shown.sure and replica not in going | busy]
    if view.hosts is None:
        assert left, f"{going} are the last in {name}"
        return
    wanted = set(here.spec(here.newest_target.release).hosts)
    had = {host for replica in going for host in view.published[replica].hosts} & wanted
    assert had <= {host for shown in left for host in shown.hosts}, f"{going} are the last of a name in {name}"


def _withdrawn(decision: Decision, name: str) -> set[ReplicaId]:
    steps = [step for step in decision.steps if isinstance(step, s.WithdrawRecords) and step.view == name]
    return {step.replica for step in steps}


def _going(here: Situation, decision: Decision, name: str) -> set[ReplicaId]:
    """Those whose records do not stay, and those about which that is not known at this moment."""
    begun = {member.id for member in here.members.values() if member.record.withdraw_began_at is not None}
    busy = {replica for replica in here.members if dns_subject(name, replica) in here.observed.busy}
    return begun | busy | _withdrawn(decision, name)


def _out_of_caches(
    here: Situation, step: s.DrainServer | s.DisableServer, view: ObservedDns, going: set[ReplicaId]
) -> None:
    """A rollout that removes records hands nobody off that a view names, but for the last of a name, or that a cache
    may have."""
    member, rollout = here.members[step.replica], here.rollout
    if rollout is None or not rollout.policy.remove_from_dns or not member.serving:
        return
    assert view.answering or not view.required, "a hand-off without a view that has to be asked"
    if view.answering and step.replica in view.published:
        named = {other.id for other in here.members.values() if other.serving and other.id != member.id}
        kind = view.kind(step.replica)
        alike = {name for name in named - going if name in view.published and view.kind(name) == kind}
        held = {host for name in alike for host in _hosts(view, name)}
        mine = _hosts(view, step.replica) & {*here.spec(here.newest_target.release).hosts, ""}
        assert not mine <= held, f"{step.replica} is handed off while it is named"
    if member.record.withdraw_began_at is not None:
        assert member.record.withdrawn_at is not None, "its wait has not begun"
        assert here.now >= member.record.withdrawn_at + view.ttl, "caches may have it"


def _hosts(view: ObservedDns, replica: str) -> set[str]:
    """With rota's own names, one that stands for all of them."""
    shown = {str(name): published for name, published in view.published.items()}.get(replica)
    if shown is None:
        return set()
    return {""} if view.hosts is None else set(shown.hosts)
