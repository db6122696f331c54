"""Which of an app's backends get how much of its new requests; asked by decide before any replica is handed off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import gcd

from rota.core.backend import backend_of
from rota.core.situation import Situation
from rota.core.steps import PrepareBackend, RouteApp, UnrouteApp


def lead(here: Situation) -> bool:
    """Asks for what the routes lack; returns whether they are as they should be."""
    if not here.balanced or "routes" in here.observed.busy:
        return False
    if here.desired.removed:
        return True
    seen, hosts, backend = here.observed.balancer, _hosts(here), here.backend
    if backend.name not in seen.backends or set(hosts) != seen.hosts:
        reason = f"{', '.join(hosts)} must lead to {backend.name}"
        if backend.name not in seen.backends:
            reason = "waiting for HAProxy's next reload (at most one in 10 s)"  # the reloads' own interval
        here.draft.add(PrepareBackend(reason, backend, hosts))
        return False
    shares = _shares(here)
    if shares and shares != _reduced(seen.routes):
        here.draft.add(RouteApp("requests go where the replicas are", shares))
        return False
    return True


def drop(here: Situation) -> bool:
    """Asks for the end of a removed app's routes; returns whether they are gone."""
    seen = here.observed.balancer
    if here.balanced and (seen.hosts or seen.backends):
        here.draft.add(UnrouteApp("the app is removed"))
    return here.balanced and not seen.hosts and not seen.backends


def _hosts(here: Situation) -> tuple[str, ...]:
    """While a rollout changes them, the old hosts and the new ones both lead to the app."""
    releases = {here.desired.current.release, here.newest_target.release}
    hosts = {host for release in releases for host in here.spec(release).hosts}
    return tuple(sorted(hosts))


def _shares(here: Situation) -> Mapping[str, int]:
    """In proportion to the replicas that are there to stay; empty when none is, which leaves the routes alone."""
    staying = Counter(
        backend_of(here.spec(member.record.release)).name
        for member in here.members.values()
        if member.admitted and member.kept
    )
    return _reduced(staying)


def _reduced(shares: Mapping[str, int]) -> Mapping[str, int]:
    """The same proportions in the smallest numbers."""
    common = gcd(*shares.values()) or 1
    return {name: share // common for name, share in shares.items()}
