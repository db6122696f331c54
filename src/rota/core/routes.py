"""Which of an app's backends get how much of its new requests; asked by decide before any replica is handed off."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from rota.core.member import Member
from rota.core.situation import Situation
from rota.core.steps import PrepareBackend, RouteApp, SetMaintenance, UnrouteApp
from rota.core.tcp import Listener, merged


def lead(here: Situation) -> bool:
    """Asks for what the routes lack; returns whether they are as they should be."""
    if not here.balanced or "routes" in here.observed.busy:
        return False
    if here.desired.removed:
        return True
    seen, hosts, listeners, backend = here.observed.balancer, _hosts(here), _listeners(here), here.backend
    by_reload = backend.name not in seen.backends or set(listeners) != seen.listeners
    if by_reload or set(hosts) != seen.hosts:
        reason = _reload(here) if by_reload else f"{', '.join(hosts)} must lead to {backend.name}"
        here.draft.add(PrepareBackend(reason, backend, hosts, listeners))
        return False
    shares = _shares(here)
    if shares and shares != _reduced(seen.routes):
        here.draft.add(RouteApp("requests go where the replicas are", shares))
        return False
    return True


def _reload(here: Situation) -> str:
    reloads = here.observed.balancer.reloads
    wait = math.ceil(reloads.not_before - here.now)
    if wait <= 0:
        return "HAProxy is reloaded for them"
    return f"HAProxy is reloaded for them in {wait} s, as it is at most once in {reloads.apart:g} s"


def close(here: Situation) -> None:
    """Asks for the users to be kept out, or let in again; nothing else waits for that."""
    seen, wanted = here.observed.balancer, here.desired.maintenance
    if here.balanced and (seen.hosts or seen.listeners) and wanted != seen.maintenance and not here.desired.removed:
        reason = "users are answered with 503" if wanted else "it is over"
        here.draft.add(SetMaintenance(reason, wanted))


def drop(here: Situation) -> bool:
    """Asks for the end of a removed app's routes; returns whether they are gone. HAProxy may listen for it until the
    call has ended: the file is without it first."""
    if "routes" in here.observed.busy:
        return False
    seen = here.observed.balancer
    there = seen.hosts or seen.backends or seen.listeners
    if here.balanced and there:
        here.draft.add(UnrouteApp("the app is removed"))
    return here.balanced and not there


def _hosts(here: Situation) -> tuple[str, ...]:
    """While a rollout changes them, the old sites and the new ones both lead to the app; where one is in both, it does
    what the new release says."""
    releases = (here.desired.current.release, here.newest_target.release)
    sites = {site.key: str(site) for release in releases for site in here.spec(release).sites}
    return tuple(sorted(sites.values()))


def _listeners(here: Situation) -> tuple[Listener, ...]:
    """As the sites: the old ones and the new ones."""
    releases = (here.desired.current.release, here.newest_target.release)
    return merged(*(here.spec(release).listeners for release in releases))


def _shares(here: Situation) -> Mapping[str, int]:
    """In proportion to the weights of the replicas that are to be sent to; empty when none is, or when they would be
    too few, which leaves the routes alone. A switch is all or nothing, unless nobody serves."""
    rollout = here.rollout
    if rollout is not None and rollout.policy.switch and here.serving and not _all_there(here):
        return {}
    shares: Counter[str] = Counter()
    for member in here.members.values():
        if member.server is not None and member.admitted and (member.kept or _is_still_sent_to(here, member)):
            shares[member.server.backend] += member.slot_weight
    there = [m for m in here.members.values() if m.server is not None and m.arrived and m.server.backend in shares]
    return _reduced(shares) if len(there) >= min(here.floor, here.serving) else {}


def _is_still_sent_to(here: Situation, member: Member) -> bool:
    """It does not stay, and serves until the one that comes in its place is there."""
    slot, rollout = member.record.slot, here.rollout
    if not member.serving or slot not in here.slots or member.record.failure is not None:
        return False
    if rollout is not None and slot in rollout.in_hand and rollout.policy.stops_first:
        return False
    return not any(other.kept and other.admitted for other in here.of_slot(slot))


def _all_there(here: Situation) -> bool:
    """Every slot has its replica, up, in the pool that is to serve, and nobody else would be sent to in there."""
    pool = here.backend.name
    inside = [member for member in here.members.values() if member.server is not None and member.server.backend == pool]
    there = {member.record.slot for member in inside if member.arrived and member.kept}
    others = any(member.admitted and not member.kept for member in inside)
    return there >= set(here.slots) and not others


def _reduced(shares: Mapping[str, int]) -> Mapping[str, int]:
    """The same proportions in the smallest numbers."""
    common = math.gcd(*shares.values()) or 1
    return {name: share // common for name, share in shares.items()}
