"""The text of haproxy.cfg and of its two maps: pure, from the state; written to disk by the adapter.

``hosts.map`` leads a host to its app, ``routes.map`` the app to its backend. While an app's requests are spread over
several backends, ``routes.map`` has ``app/0`` to ``app/99`` as well and a request draws one of them by ``rand``; the
bare ``app`` stays and leads to the heaviest, so that a request between the two look-ups of a change is served too.
``app=cookie`` leads a sticky app's user to the backend that the server of the cookie is in."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import App, Pool, Server, State
from rota.core.backend import Backend
from rota.core.names import ReplicaId, app_name, domain_name
from rota.core.observation import Address

WEIGHT = 100
"""Given to every server, in the file and over the socket: a dynamic server's own default is 1 (measured)."""

HOSTS_MAP = "hosts.map"
ROUTES_MAP = "routes.map"
_DRAWS = 100
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_BALANCE = {
    "round-robin": ("  balance roundrobin",),
    "leastconn": ("  balance leastconn",),
    "random": ("  balance random",),
    "source": ("  balance source", "  hash-type consistent"),  # else a server can be added by a reload only
}
_CHECK_PATH = re.compile(r"/[!-~]*", re.ASCII)
_COOKIE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)
_LEAD = """\
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  use_backend %[var(txn.backend)]"""


def render(state: State, settings: Settings, key: str) -> str:
    """haproxy.cfg; ``key`` makes the sticky apps' cookies what nobody can guess. Raises ValueError for a name, host,
    path, cookie or address that the core's types would not let through."""
    head = ["# Written by rota; changes made by hand are lost.", *state.lines(), _head(settings), *_pins(state), _LEAD]
    pools = [_backend(app, pool, key) for _, app in sorted(state.apps.items()) for _, pool in sorted(app.pools.items())]
    return "\n".join([*head, *pools, ""])


def hosts_map(state: State) -> str:
    entries = sorted((domain_name(host), app_name(app.name)) for app in state.apps.values() for host in app.hosts)
    return "".join(f"{host} {app}\n" for host, app in entries)


def routes_map(state: State) -> str:
    return "".join(f"{key} {backend}\n" for key, backend in _routes(state))


def server_words(pool: Pool, address: Address) -> str:
    """What follows the server's name in the file and in ``add server``.

    ``observe layer4``: after 3 refused connections in a row the server counts as failing its last but one check and
    is checked at once, so a dead one is out after one fast check. ``mark-down`` would be faster by that check, but
    a full accept queue under overload would then take out every server together."""
    backend = pool.backend
    return (
        f"{written(address)} weight {WEIGHT} check inter {_ms(backend.interval)} fastinter {_ms(backend.fast_interval)}"
        f" fall {backend.fall} rise {backend.rise} observe layer4 error-limit 3 on-error sudden-death"
    )


def written(address: Address) -> str:
    """``127.0.0.1:80`` or ``[::1]:80``; raises ValueError for what is no IP address."""
    host = ipaddress.ip_address(address.host)
    if not 0 < address.port < 65536:
        raise ValueError(f"{address.port} is not a port")
    return f"[{host}]:{address.port}" if host.version == 6 else f"{host}:{address.port}"


def word(name: str | ReplicaId) -> str:
    """A name that HAProxy takes as it is; raises ValueError for any other."""
    if not _WORD.fullmatch(name):
        raise ValueError(f"{name!r} is not a name for HAProxy")
    return name


def draws(shares: Mapping[str, int]) -> list[str]:
    """The backend of each of the 100 draws, in proportion to the shares; every share above 0 gets at least one."""
    total = sum(shares.values())
    bounds, reached = [], 0
    for name, share in sorted(shares.items()):
        reached += share
        bounds.append((name, round(reached * _DRAWS / total)))
    drawn: list[str] = []
    for name, bound in bounds:
        drawn += [name] * max(bound - len(drawn), 1)
    return drawn[:_DRAWS]


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


def _head(settings: Settings) -> str:
    binds = "\n".join(f"  bind {bind}" for bind in settings.binds)
    return f"""\
global
  maxconn {settings.maxconn}
  hard-stop-after {_ms(settings.hard_stop)}
  stats socket unix@stats.sock mode 600 level admin expose-fd listeners
  stats timeout 24h
defaults
  mode http
  timeout connect 1s
  timeout client 60s
  timeout http-request 10s
  timeout http-keep-alive 20s
  timeout server 60s
  timeout tunnel 1h
  option idle-close-on-response
  http-reuse safe
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response
frontend http
{binds}
  http-request set-var(txn.app) req.hdr(host),field(1,:),lower,map({HOSTS_MAP})
  http-request return status 404 content-type text/plain string "No app has this host name.\\n" unless {{ var(txn.app) -m found }}
  http-request set-var(txn.draw) rand({_DRAWS})
  http-request set-var(txn.backend) var(txn.app),map({ROUTES_MAP})
  http-request set-var(txn.drawn) var(txn.app),concat(/,txn.draw),map({ROUTES_MAP})
  http-request set-var(txn.backend) var(txn.drawn) if {{ var(txn.drawn) -m found }}"""  # noqa: E501


def _pins(state: State) -> list[str]:
    """While an app's replicas are in several backends, a user of one of them is led to that, whatever was drawn."""
    pools = (pool for app in state.apps.values() for pool in app.pools.values())
    names = sorted({_cookie_name(pool.backend.cookie) for pool in pools if pool.backend.cookie is not None})
    return [
        f"""\
  http-request set-var(txn.pin) req.cook({name})
  http-request set-var(txn.pinned) var(txn.app),concat(=,txn.pin),map({ROUTES_MAP})
  http-request set-var(txn.backend) var(txn.pinned) if {{ var(txn.pinned) -m found }}"""
        for name in names
    ]


def _backend(app: App, pool: Pool, key: str) -> str:
    servers = [_server(pool, server) for _, server in sorted(app.servers.items()) if server.backend == pool.name]
    lines = [
        f"backend {word(pool.name)}",
        *_BALANCE[pool.backend.balance],
        "  http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
        f"  timeout check {_ms(pool.backend.timeout)}",
        *_check(pool.backend, pool.host),
        *_cookie(pool.backend, key),
    ]
    return "\n".join([*lines, *servers])


def _check(backend: Backend, host: str) -> list[str]:
    if backend.check_path is None:
        return []
    if not _CHECK_PATH.fullmatch(backend.check_path):
        raise ValueError(f"{backend.check_path!r} is not a path of a health check")
    send = f"  http-check send meth GET uri {_quoted(backend.check_path)} ver HTTP/1.1 hdr Host {domain_name(host)}"
    return ["  option httpchk", send, *_expected(backend.expect_body)]


def _expected(body: str | None) -> list[str]:
    """With a rule of our own HAProxy's default one, that of the status, no longer holds by itself."""
    if body is None:
        return []
    if not body.isprintable() or not body:
        raise ValueError(f"{body!r} is not a text of one line to expect")
    return ["  http-check expect status 200-399", f"  http-check expect string {_quoted(body)}"]


def _cookie(backend: Backend, key: str) -> list[str]:
    """``dynamic``: the value is a hash of the key and a server's address, so it says nothing, is the same in every
    backend and HAProxy process, and needs no name of a server. A frontend with TLS adds ``secure`` here."""
    if backend.cookie is None:
        return []
    age = "" if backend.cookie_age is None else f' attr "Max-Age={round(backend.cookie_age)}"'
    name = _cookie_name(backend.cookie)
    attributes = f'httponly attr "SameSite=Lax"{age}'
    return [f"  dynamic-cookie-key {word(key)}", f"  cookie {name} insert indirect nocache dynamic {attributes}"]


def _cookie_name(name: str) -> str:
    if not _COOKIE.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a cookie")
    return name


def _server(pool: Pool, server: Server) -> str:
    return f"  server {word(server.replica)} {server_words(pool, server.address)}"


def _quoted(text: str) -> str:
    """HAProxy's strong quotes: nothing between them is special, and a quote itself stands outside, escaped."""
    return "'" + text.replace("'", "'\\''") + "'"


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"
