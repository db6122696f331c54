"""The maps beside haproxy.cfg: pure, from the state; written to disk and sent to the running process.

``hosts.map`` leads a host, or a wildcard, to its app. ``>www.example.org`` there sends users on; ``/app`` says that
``paths.map`` may know better, which has ``host/path/``: the longest that the request begins with holds, and ``host/``
where what is nobody's has a page (notfound.py). Both are trees: a thousand apps cost what one does.

``routes.map`` leads the app to its backend: ``app``, as long as all its requests go one way, and a request asks no
further then. While they are spread over several backends, ``app`` is not there, ``app/0`` to ``app/99`` are and a
request draws one of them by ``rand``; ``app=cookie`` leads a sticky app's user to the backend that the server of the
cookie is in. ``app/``, to the heaviest, is always there, so that a request between the look-ups of a change is served
too. An app in maintenance goes one way, and its TCP services have none. ``app:5432/0`` to ``app:5432/99`` and
``app:5432``, to the heaviest, do the same for the connections of a TCP service, ``:443/www.example.org`` says whose a
TLS client is."""

from __future__ import annotations

from collections.abc import Mapping

from rota.adapters.balancer.haproxy.closed import closed_backend
from rota.adapters.balancer.haproxy.notfound import not_found_backend
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
        if host not in entries and _wildcard(host) not in entries:
            lines += _nobody_s(state, host, paths) or _nobody_s(state, host, others)
    return "".join(lines)


def _nobody_s(state: State, host: str, paths: Mapping[str, str]) -> list[str]:
    """The page for what is below none of the paths: of the app with the shortest that has one."""
    by_length = sorted(paths.items(), key=lambda entry: (len(entry[0]), entry[1]))
    pages = (not_found_backend(state.apps[app]) for _, app in by_length)
    return [f"{host}/ {page}\n" for page in pages if page is not None][:1]


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
    return [entry for name, app in sorted(state.apps.items()) for entry in (*_page(app), *_of_app(app_name(name), app))]


def _page(app: App) -> list[tuple[str, str]]:
    page = not_found_backend(app)
    return [] if page is None else [(f"{page}/", page)]


def _of_app(name: str, app: App) -> list[tuple[str, str]]:
    asked = [(f":{listener.port}/{host_name(asked)}", name) for listener in app.listeners for asked in listener.names]
    if app.maintenance:
        return [*asked, *_only(name, closed_backend(app))]
    served = [entry for listener in app.listeners for entry in _of_service(name, app, listener.port)]
    return [*asked, *_ways(name, app), *served]


def _ways(name: str, app: App) -> list[tuple[str, str]]:
    pins = [(f"{name}={word(pin)}", word(backend)) for pin, backend in sorted(app.pins.items())]
    if len(app.shares) == 1 and not pins:
        return _only(name, word(next(iter(app.shares))))
    return [*_spread(f"{name}/", name, app.shares), *pins] if app.shares else []


def _only(name: str, backend: str) -> list[tuple[str, str]]:
    return [(name, backend), (f"{name}/", backend)]


def _of_service(name: str, app: App, port: int) -> list[tuple[str, str]]:
    """By the shares of the pools that have the TCP service, and its backend in each."""
    having = (pool for pool in app.shares if any(port == service for service, *_ in app.pools[pool].backend.tcp))
    key = f"{name}:{port}"
    return _spread(key, key, {service_backend(pool, port): app.shares[pool] for pool in having})


def _spread(bare: str, key: str, shares: Mapping[str, int]) -> list[tuple[str, str]]:
    """``bare`` to the heaviest, and where there are several ``key/0`` to ``key/99`` by their shares."""
    if not shares:
        return []
    heaviest = max(sorted(shares), key=shares.__getitem__)
    drawn = enumerate(draws(shares)) if len(shares) > 1 else ()
    return [(bare, word(heaviest)), *((f"{key}/{number}", word(backend)) for number, backend in drawn)]
