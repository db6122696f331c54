"""The two maps beside haproxy.cfg: pure, from the state; written to disk and sent to the running process.

``hosts.map`` leads a host to its app, ``routes.map`` the app to its backend. While an app's requests are spread over
several backends, ``routes.map`` has ``app/0`` to ``app/99`` as well and a request draws one of them by ``rand``; the
bare ``app`` stays and leads to the heaviest, so that a request between the two look-ups of a change is served too.
``app=cookie`` leads a sticky app's user to the backend that the server of the cookie is in."""

from __future__ import annotations

from collections.abc import Mapping

from rota.adapters.balancer.haproxy.state import State
from rota.adapters.balancer.haproxy.words import word
from rota.core.names import app_name, domain_name

HOSTS_MAP = "hosts.map"
ROUTES_MAP = "routes.map"
DRAWS = 100


def hosts_map(state: State) -> str:
    entries = sorted((domain_name(host), app_name(app.name)) for app in state.apps.values() for host in app.hosts)
    return "".join(f"{host} {app}\n" for host, app in entries)


def routes_map(state: State) -> str:
    return "".join(f"{key} {backend}\n" for key, backend in _routes(state))


def draws(shares: Mapping[str, int]) -> list[str]:
    """The backend of each of the 100 draws, in proportion to the shares; every share above 0 gets at least one."""
    total = sum(shares.values())
    bounds, reached = [], 0
    for name, share in sorted(shares.items()):
        reached += share
        bounds.append((name, round(reached * DRAWS / total)))
    drawn: list[str] = []
    for name, bound in bounds:
        drawn += [name] * max(bound - len(drawn), 1)
    return drawn[:DRAWS]


def _routes(state: State) -> list[tuple[str, str]]:
    entries = []
    for name, app in sorted(state.apps.items()):
        if app.shares:
            heaviest = max(sorted(app.shares), key=app.shares.__getitem__)
            entries.append((app_name(name), word(heaviest)))
        if len(app.shares) > 1:
            entries += [(f"{name}/{number}", word(backend)) for number, backend in enumerate(draws(app.shares))]
        entries += [(f"{name}={word(pin)}", word(backend)) for pin, backend in sorted(app.pins.items())]
    return entries
