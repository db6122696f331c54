"""Diagnosis: what is wrong with an app and what may help, as a list of findings (H12); pure, made of an app's situation
and asked for by ``rota doctor``. Findings about the host are made by adapters.host."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rota.core import publication, repair
from rota.core.accepted import broken_rules
from rota.core.expiry import Certificate, in_words, is_expiring
from rota.core.member import Member, ReplicaPhase
from rota.core.names import ReplicaId
from rota.core.notice import Letter
from rota.core.observation import Connections, Stranger
from rota.core.quantities import written_seconds
from rota.core.receipt import by_replica
from rota.core.redaction import redacted, shown
from rota.core.rollout import Phase
from rota.core.situation import Situation

SETTLED_FOR = 30.0  # seconds in rotation before a replica's share says anything
LEAST_REQUESTS = 100  # of the busiest one
NAMED_WITHIN = 10.0  # seconds: an update takes one, and is tried again four times a second
UNEVEN = 2.0  # times as many requests a second as another: round-robin keeps it near 1

MANY_OLD = 4  # HAProxy processes: each takes some MB, and there may be twice as many

_WENT_WRONG = frozenset({Phase.PAUSED, Phase.ROLLED_BACK, Phase.FAILED})


class Level(enum.Enum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """``about`` is an app, a replica or a part of the host; ``said`` has the way out where there is one."""

    level: Level
    about: str
    said: str


def of_app(here: Situation) -> tuple[Finding, ...]:
    """All there is to say of one app; a single ``ok`` when nothing is wrong."""
    found = [*_of_app(here), *(finding for member in here.members.values() for finding in _of_replica(here, member))]
    found += [*_uneven(here), *_of_names(here), *_of_rules(here)]
    if found:
        return tuple(found)
    said = f"{here.serving} of {len(here.slots)} serve" if here.desired.active else "it is stopped"
    return (Finding(Level.OK, here.state.name, said),)


def of_strangers(strangers: Sequence[Stranger], app: str | None) -> tuple[Finding, ...]:
    """Those that name the app, or all."""
    asked = (one for one in strangers if app in (None, one.app))
    return tuple(Finding(Level.WARNING, one.app or "runtime", one.said) for one in asked)


def of_letters(unsent: Sequence[Letter]) -> tuple[Finding, ...]:
    """Notices that could not be sent, an address at a time."""
    by_url: dict[str, list[Letter]] = {}
    for letter in unsent:
        by_url.setdefault(letter.url, []).append(letter)
    return tuple(
        Finding(Level.PROBLEM, "notices", f"{len(waiting)} could not be sent to {shown(url)}: {waiting[0].failure}")
        for url, waiting in by_url.items()
    )


def of_certificates(certificates: Sequence[Certificate], now: float) -> tuple[Finding, ...]:
    return tuple(
        Finding(Level.PROBLEM if is_expiring(one, now) else Level.OK, "certificates", in_words(one, now))
        for one in certificates
    )


def of_connections(seen: Connections) -> tuple[Finding, ...]:
    """HAProxy's old processes, and what had to end with some of them."""
    found = []
    if seen.old_processes:
        said = f"{seen.old_processes} from before the last reload serve on until what is open in them ends"
        level = Level.WARNING if seen.old_processes >= MANY_OLD else Level.OK
        found.append(Finding(level, "old HAProxy processes", said))
    for app, count in sorted(seen.let_go.items()):
        said = f"{count} long connections were ended, as the old HAProxy process that held them had to make room"
        found.append(Finding(Level.WARNING, app, f"{said}; reloads come with new apps and other check settings"))
    return tuple(found)


def of_dns(about: Mapping[str, Any] | None) -> Finding:
    """Of the server's own part in DNS; what becomes of an app's records is said with the app."""
    if about is None:
        return Finding(Level.OK, "dns", "rota keeps no names; rota serve --dns or --dns-zones has it do so")
    listen, zones = about["listen"], ", ".join(about["zones"])
    if listen and about["pid"] is None:
        return Finding(Level.PROBLEM, "dns", f"the name server for {listen} does not run; see nameserver.log")
    told = [f"rota.internal at {listen}"] if listen else []
    return Finding(Level.OK, "dns", "; ".join([*told, f"zones: {zones}"] if zones else told))


def _of_app(here: Situation) -> Iterable[Finding]:
    name, last = here.state.name, here.recorded.rollout
    if not here.balanced and here.desired.active:
        yield Finding(Level.PROBLEM, name, "HAProxy does not answer: nobody knows who serves")
    elif here.desired.active and here.serving < len(here.slots):
        level = Level.WARNING if here.serving else Level.PROBLEM
        yield Finding(level, name, f"{here.serving} of {len(here.slots)} replicas serve")
    if last is not None and last.phase in _WENT_WRONG and last.cause is not None:
        said = f"{last.id} {last.kind.value} {last.phase.value.replace('_', ' ')}: {last.cause.value}: {last.detail}"
        way = f"; go on with rota rollout resume {last.id}, or abort" if last.phase is Phase.PAUSED else ""
        yield Finding(Level.WARNING, name, said + way)
    for slot, record in sorted(here.recorded.slots.items()):
        if slot in here.slots and record.attempts and not any(other.serving for other in here.of_slot(slot)):
            again = f"the next is in {written_seconds(max(0.0, record.next_try - here.now))}"
            yield Finding(
                Level.WARNING, name, f"slot {slot}: {record.attempts} tries brought no lasting replica; {again}"
            )


def _of_replica(here: Situation, member: Member) -> Iterable[Finding]:
    failure = member.record.failure
    if failure is not None:
        last = f"; its last line: {failure.log[-1].strip()}" if failure.log else ""
        yield Finding(Level.PROBLEM, member.id, f"{failure.cause.value}: {failure.detail}{last}")
    elif said := repair.condition(here, member):
        yield Finding(Level.WARNING, member.id, said)
    elif member.phase in (ReplicaPhase.STARTING, ReplicaPhase.WARMING):
        seen = here.observed.probes.get(member.id)
        last = f"; last: {seen.last_failure}" if seen is not None and seen.last_failure else ""
        yield Finding(Level.WARNING, member.id, f"is {member.phase.value}{last}")
    for oddity in member.seen.oddities if member.seen is not None else ():
        yield Finding(Level.WARNING, member.id, oddity)
    if member.running and member.seen is not None and not member.seen.limits_enforced:
        yield Finding(Level.WARNING, member.id, "its limits are not enforced: no cgroup is writable here")


def _of_names(here: Situation) -> Iterable[Finding]:
    """Of each view of DNS: whether it answers, and whether what was to be changed in it was."""
    for name, view in here.observed.dns.items():
        if not view.answering:
            said = f"DNS, {name}: {view.trouble}; it says what it said before"
            yield Finding(Level.PROBLEM, here.state.name, said)
            continue
        late = [member for member in publication.unnamed(here, view) if _in_rotation_for(here, member) >= NAMED_WITHIN]
        if late:
            names, app = ", ".join(member.id for member in late), here.state.name
            said = f"DNS, {name}: it does not name {names}: updates fail, and rota events --app {app} says why"
            yield Finding(Level.PROBLEM, app, said)


def _of_rules(here: Situation) -> Iterable[Finding]:
    """Its file was taken by an earlier rota, and this one would refuse it."""
    number = here.desired.current.release
    spec = here.spec(number)
    for broken in broken_rules(spec):
        for url in spec.notify:
            broken = broken.replace(url, shown(url))
        rule = redacted(broken, {entry.name: entry.value for entry in spec.env})
        said = f"release {number} runs as it was accepted, but {rule}; the next file has to keep this rule"
        yield Finding(Level.WARNING, here.state.name, said)


def _in_rotation_for(here: Situation, member: Member) -> float:
    return here.now - (here.now if member.record.enabled_at is None else member.record.enabled_at)


def _uneven(here: Situation) -> Iterable[Finding]:
    """Whether some replicas get far more requests than others, by HAProxy's own counters."""
    rates = _rates(here)
    if len(rates) < 2:
        return
    busiest, idlest = max(rates, key=rates.__getitem__), min(rates, key=rates.__getitem__)
    if rates[busiest] > UNEVEN * rates[idlest]:
        said = (
            f"uneven load: {busiest} answers {rates[busiest]:.1f} requests a second and {idlest} {rates[idlest]:.1f}; "
            "look whether that one was unhealthy, or whether few clients hold long connections"
        )
        yield Finding(Level.WARNING, here.state.name, said)


def _rates(here: Situation) -> Mapping[ReplicaId, float]:
    """Requests a second of each replica that has been in rotation for a while, since it, or HAProxy, came."""
    counted = by_replica(here.observed.balancer.rows, {})
    restarted = max((gap.until or here.now for gap in here.observed.balancer.gaps), default=0.0)
    rates: dict[ReplicaId, float] = {}
    for member in here.members.values():
        since = max(member.record.enabled_at or here.now, restarted)
        if member.serving and member.id in counted and here.now >= since + SETTLED_FOR:
            rates[member.id] = counted[member.id].requests / (here.now - since)
    enough = any(counted[name].requests >= LEAST_REQUESTS for name in rates)
    return rates if enough else {}
