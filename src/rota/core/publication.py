"""What DNS is to say of an app's replicas, view by view: who is published, who is withdrawn, and what a hand-off has to
wait for (V5, R2, J3). Called by decide; without any view it does nothing.

A view follows what is in rotation. A hand-off that removes records takes them out of every view first and waits until
no cache can have them any more; the last record of a name stays."""

from __future__ import annotations

from collections.abc import Iterator, Set

from rota.core.member import Member
from rota.core.names import ReplicaId
from rota.core.observation import DnsEntry, ObservedDns, Published
from rota.core.situation import Situation
from rota.core.steps import NoteWithdrawn, PublishRecords, WithdrawRecords, dns_subject


def follow(here: Situation, going: Set[ReplicaId]) -> None:
    """Asks for what the views lack and for the end of what they have too much. ``going`` are the replicas whose
    hand-off may go on: those are named no more; one whose hand-off cannot go on, or is not wanted any more, comes
    back."""
    for name, view in here.observed.dns.items():
        if view.answering and here.balanced:
            for member in here.members.values():
                if _to_publish(here, member, going):
                    _publish(here, name, view, member)
            for replica in view.published:
                if _to_withdraw(here, name, view, replica):
                    _withdraw(here, name, replica, "it is not in rotation", going=False)


def let_go(here: Situation, member: Member, reason: str) -> bool:
    """Asked before a replica that serves is handed off; whether it may be taken out of the balancer now. A rollout that
    removes records has them withdrawn first, and waits for their TTL."""
    rollout = here.rollout
    if rollout is None or not rollout.policy.remove_from_dns:
        return True
    waits = [_wait(here, name, view, member, reason) for name, view in here.observed.dns.items()]
    if any(waits):
        return False
    if member.record.withdraw_began_at is None:
        return True  # there was nothing to withdraw, or it is the last of its name
    if member.record.withdrawn_at is None:
        here.draft.add(NoteWithdrawn(member.id, f"no view names it any more; caches may, for {_ttl(here):g} s"))
        return False
    ends = member.record.withdrawn_at + _ttl(here)
    here.draft.wake(ends if here.now < ends else None)
    return here.now >= ends


def is_settled(here: Situation, member: Member) -> bool:
    """Whether a rollout that removes records may count a replica as back: every view that counts names it."""
    rollout = here.rollout
    if rollout is None or not rollout.policy.remove_from_dns:
        return True
    return all(_is_right(here, view, member) for view in here.observed.dns.values() if view.answering or view.required)


def unnamed(here: Situation, view: ObservedDns) -> tuple[Member, ...]:
    """The replicas in rotation that the view does not name as they are."""
    serving = (member for member in here.members.values() if member.known and member.serving)
    return tuple(member for member in serving if not _is_right(here, view, member))


def is_cleared(here: Situation) -> bool:
    """Whether nothing is left of a removed app, as far as it is waited for."""
    views = here.observed.dns.values()
    return all(not view.published if view.answering else not view.required for view in views)


def patience(here: Situation) -> float:
    """Seconds that a hand-off may wait for caches."""
    rollout = here.rollout
    return _ttl(here) if rollout is not None and rollout.policy.remove_from_dns else 0.0


def _ttl(here: Situation) -> float:
    return max((view.ttl for view in here.observed.dns.values()), default=0.0)


def _wait(here: Situation, name: str, view: ObservedDns, member: Member, reason: str) -> bool:
    """Whether this view still has a record of it that is to go; asks for its end."""
    if not view.answering:
        return view.required
    if _is_busy(here, name, member.id):
        return True
    if member.id not in view.published:
        return False
    if _heir_comes(here, view, member):
        return True
    if not _others(here, name, view, member.id):
        return _comes(here, view, member)  # the last of its name stays, unless another is about to take its place
    _withdraw(here, name, member.id, reason, going=True)
    return True


def _comes(here: Situation, view: ObservedDns, member: Member) -> bool:
    others = (other for other in here.members.values() if other.id != member.id)
    return any(other.serving and other.kept and not _is_right(here, view, other) for other in others)


def _heir_comes(here: Situation, view: ObservedDns, member: Member) -> bool:
    """Its place is taken by one that is not named yet: in between the name would have a replica less than serve."""
    heirs = (other for other in here.of_slot(member.record.slot) if other.id != member.id)
    return any(heir.serving and heir.kept and not _is_right(here, view, heir) for heir in heirs)


def _to_publish(here: Situation, member: Member, going: Set[ReplicaId]) -> bool:
    """It serves, and no call that changes that is under way."""
    return member.known and member.serving and member.id not in going and not here.draft.about(member.id)


def _to_withdraw(here: Situation, name: str, view: ObservedDns, replica: ReplicaId) -> bool:
    member = here.members.get(replica)
    if member is not None and member.serving:
        return False
    return not here.desired.active or _others(here, name, view, replica)


def _others(here: Situation, name: str, view: ObservedDns, replica: ReplicaId) -> bool:
    """Whether each name that the app is to keep has another record that stays, of the same type: who asks for A is
    not helped by AAAA."""
    kind = view.kind(replica)
    staying = [other for other in _staying_records(here, name, view) if other != replica and view.kind(other) == kind]
    if view.hosts is None:
        return bool(staying)
    wanted = frozenset(here.spec(here.newest_target.release).hosts)
    held = frozenset[str]().union(*(view.published[other].hosts for other in staying))
    return view.published[replica].hosts & wanted <= held


def _staying_records(here: Situation, name: str, view: ObservedDns) -> Iterator[ReplicaId]:
    for replica in view.published:
        member = here.members.get(replica)
        going = member is None or not member.serving or member.record.withdraw_began_at is not None
        if view.published[replica].sure and not going and not _is_busy(here, name, replica):
            yield replica


def _is_right(here: Situation, view: ObservedDns, member: Member) -> bool:
    """The view names the replica as it is; a zone that has none of its hosts need not."""
    wanted = _entry(here, member)
    hosts = wanted.hosts & view.hosts if view.hosts is not None else frozenset()
    if view.hosts is not None and not hosts:
        return member.id not in view.published
    return view.published.get(member.id) == Published(wanted.address, hosts)


def _entry(here: Situation, member: Member) -> DnsEntry:
    assert member.seen is not None  # a replica that serves is seen
    assert member.seen.address is not None  # and has an address
    record, hosts = member.record, frozenset(here.spec(member.record.release).hosts)
    return DnsEntry(member.id, record.slot, record.release, member.seen.address, hosts)


def _publish(here: Situation, name: str, view: ObservedDns, member: Member) -> None:
    """One that comes back is written down as published even where nobody has withdrawn it yet."""
    if not _is_right(here, view, member) or member.record.withdraw_began_at is not None:
        entry = _entry(here, member)
        here.draft.add(PublishRecords(member.id, f"in rotation, to be named in {name}", name, entry))


def _withdraw(here: Situation, name: str, replica: ReplicaId, reason: str, *, going: bool) -> None:
    here.draft.add(WithdrawRecords(replica, reason, name, going))


def _is_busy(here: Situation, name: str, replica: ReplicaId) -> bool:
    return here.draft.about(dns_subject(name, replica))
