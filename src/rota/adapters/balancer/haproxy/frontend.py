"""The frontend's section of haproxy.cfg, which finds a request's app and backend: pure."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.maps import DRAWS, HOSTS_MAP, ROUTES_MAP
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import State
from rota.adapters.balancer.haproxy.succession import PASS_ON, SUCCESSOR_BIND
from rota.adapters.balancer.haproxy.words import cookie_name

_LEAD = """\
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  use_backend %[var(txn.backend)]"""


def frontend_section(state: State, settings: Settings) -> str:
    return "\n".join([_find(settings), *_pins(state), _LEAD])


def _find(settings: Settings) -> str:
    binds = "\n".join(f"  bind {bind}" for bind in settings.binds)
    return f"""\
frontend http
{binds}
{SUCCESSOR_BIND}
{PASS_ON}
  http-request set-var(txn.app) req.hdr(host),field(1,:),lower,map({HOSTS_MAP})
  http-request return status 404 content-type text/plain string "No app has this host name.\\n" unless {{ var(txn.app) -m found }}
  http-request set-var(txn.draw) rand({DRAWS})
  http-request set-var(txn.backend) var(txn.app),map({ROUTES_MAP})
  http-request set-var(txn.drawn) var(txn.app),concat(/,txn.draw),map({ROUTES_MAP})
  http-request set-var(txn.backend) var(txn.drawn) if {{ var(txn.drawn) -m found }}"""  # noqa: E501


def _pins(state: State) -> list[str]:
    """While an app's replicas are in several backends, a user of one of them is led to that, whatever was drawn."""
    pools = (pool for app in state.apps.values() for pool in app.pools.values())
    names = sorted({cookie_name(pool.backend.cookie) for pool in pools if pool.backend.cookie is not None})
    return [
        f"""\
  http-request set-var(txn.pin) req.cook({name})
  http-request set-var(txn.pinned) var(txn.app),concat(=,txn.pin),map({ROUTES_MAP})
  http-request set-var(txn.backend) var(txn.pinned) if {{ var(txn.pinned) -m found }}"""
        for name in names
    ]
