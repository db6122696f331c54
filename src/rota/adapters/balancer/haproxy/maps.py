"""The maps beside haproxy.cfg: pure, from the state; written to disk and sent to the running process.

``hosts.map`` leads a host, or a wildcard, to its app. ``>www.example.org`` there sends users on; ``/app`` says that
``paths.map`` may know better, which has ``host/path/``: the longest that the request begins with holds. Both are trees:
a thousand apps cost what one does. ``routes.map`` leads the app to its backend. While an app's requests are spread over
several backends, it has ``app/0`` to ``app/99`` as well and a request draws one of them by ``rand``; the bare ``app``
stays and leads to the heaviest, so that a request between the two look-ups of a change is served too. ``app=cookie``
leads a sticky app's user to the backend that the server of the cookie is in. ``app:5432`` and ``app:5432/0`` do for a
TCP service what the bare ones do for requests, ``:443/www.example.org`` says whose a TLS client is. An app in
maintenance has no other route than one for requests."""

from __future__ import annotations

from collections.abc import Mapping

from rota.adapters.balancer.haproxy.closed import closed_backend
from rota.adapters.balancer.haproxy.parts import service_backend
from rota.adapters.balancer.haproxy.state import App, State
from rota.adapters.balancer.haproxy.words import word
from rota.core.domains import Site, host_name, site
from rota.core.names import app_name

HOSTS_MAP = "hosts.map"
PATHS_MAP = "paths.map"
ROUTES_MAP = "routes.map"
MAPS = (HOSTS_MAP, PATHS_MAP, ROUTES_MAP)
DRAWS = 100
BY_PATH = "/"
LEADS_ON = ">"


def maps_of(state: State) -> Mapping[str, str]:
    """The text of each map, by its name."""
    return {HOSTS_MAP: hosts_map(state), PATHS_MAP: paths_map(state), ROUTES_MAP: routes_map(state)}


def hosts_map(state: State) -> str:
    entries, below = _sites(state)
    values = {host: f"{LEADS_ON}{found.leads_to}" if found.leads_to else app for host, (found, app) in entries.items()}
    values |= {host: f"{BY_PATH}{values.get(host) or values.get(_wildcard(host), '')}" for host in below}
    return "".join(f"{host} {value}\n" for host, value in sorted(values.items()))


def paths_map(state: State) -> str:
    entries, below = _sites(state)
    lines = []
    for host, paths in sorted(below.items()):
        # What is below none of a host's own paths is the wildcard's, unless the whole host is somebody's.
        others = {} if host in entries else below.get(_wildcard(host), {})
        lines += [f"{host}{path}/ {app}\n" for path, app in sorted({**others, **paths}.items())]
    return "".join(lines)


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


def _sites(state: State) -> tuple[dict[str, tuple[Site, str]], dict[str, dict[str, str]]]:
    """Whole hosts with their sites and apps, and of hosts that have any the apps below their paths."""
    whole: dict[str, tuple[Site, str]] = {}
    below: dict[str, dict[str, str]] = {}
    for app in state.apps.values():
        for found in map(site, app.hosts):
            if found.path:
                below.setdefault(found.host, {})[found.path] = app_name(app.name)
            else:
                whole[found.host] = found, app_name(app.name)
    return whole, below


def _wildcard(host: str) -> str:
    return f"*.{host.partition('.')[2]}"


def _routes(state: State) -> list[tuple[str, str]]:
    entries = []
    for name, app in sorted(state.apps.items()):
        entries += [
            (f":{listener.port}/{host_name(asked)}", app_name(name))
            for listener in app.listeners
            for asked in listener.names
        ]
        if app.maintenance:
            entries.append((app_name(name), closed_backend(app)))
            continue
        entries += _spread(app_name(name), app.shares)
        for listener in app.listeners:
            entries += _spread(f"{app_name(name)}:{listener.port}", _of_service(app, listener.port))
        entries += [(f"{name}={word(pin)}", word(backend)) for pin, backend in sorted(app.pins.items())]
    return entries


def _of_service(app: App, port: int) -> dict[str, int]:
    """The shares of the pools that have the TCP service, by its backend in each."""
    having = (name for name in app.shares if any(port == service for service, *_ in app.pools[name].backend.tcp))
    return {service_backend(name, port): app.shares[name] for name in having}


def _spread(key: str, shares: Mapping[str, int]) -> list[tuple[str, str]]:
    if not shares:
        return []
    heaviest = max(sorted(shares), key=shares.__getitem__)
    drawn = enumerate(draws(shares)) if len(shares) > 1 else ()
    return [(key, word(heaviest)), *((f"{key}/{number}", word(backend)) for number, backend in drawn)]
