"""The frontend's section of haproxy.cfg, which finds a request's app and backend: pure."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.access import ACCESS_LINES
from rota.adapters.balancer.haproxy.forwarded import PROTO, forwarded
from rota.adapters.balancer.haproxy.maps import BY_PATH, DRAWS, HOSTS_MAP, LEADS_ON, PATHS_MAP, ROUTES_MAP
from rota.adapters.balancer.haproxy.notfound import not_found_answer
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import State
from rota.adapters.balancer.haproxy.succession import PASS_ON, SUCCESSOR_BIND
from rota.adapters.balancer.haproxy.words import cookie_name

_LEAD = "  use_backend %[var(txn.backend)]"

_AT_ONCE = f"""\
  http-request set-var(txn.app) req.hdr(host),field(1,:),lower,rtrim(.),map({HOSTS_MAP})
  http-request set-var(txn.backend) var(txn.app),map({ROUTES_MAP})
  http-request allow if {{ var(txn.backend) -m found }}"""
"""Nearly all requests: a host by its own name, whose app's requests all go one way. None of the rules below costs them
anything (bench/balancer.py)."""

_FURTHER = f"""\
  http-request set-var(txn.site) req.hdr(host),field(1,:),lower,rtrim(.)
  http-request set-var(txn.above) var(txn.site),field(2,.,0) unless {{ var(txn.app) -m found }}
  http-request set-var(txn.site) str(*.),concat(,txn.above) unless {{ var(txn.app) -m found }}
  http-request set-var(txn.app) var(txn.site),map({HOSTS_MAP}) unless {{ var(txn.app) -m found }}
  http-request set-var(txn.path) path if {{ var(txn.app) -m beg {BY_PATH} }}
  http-request set-var(txn.app) var(txn.app),ltrim({BY_PATH}) if {{ var(txn.path) -m found }}
  http-request set-var(txn.app) var(txn.site),concat(,txn.path,/),map_beg({PATHS_MAP}) if {{ var(txn.path) -m found }}
  http-request NOT_FOUND unless {{ var(txn.app) -m len 1: }}
  http-request set-var({PROTO}) str(http) unless {{ var({PROTO}) -m found }}
  http-request set-var(txn.canonical) var(txn.app),ltrim({LEADS_ON}) if {{ var(txn.app) -m beg {LEADS_ON} }}
  http-request set-var(txn.app) var(txn.canonical),map({HOSTS_MAP}),ltrim({BY_PATH}) if {{ var(txn.canonical) -m found }}
  http-request set-var(txn.port) req.hdr(host),field(2,:) if {{ var(txn.canonical) -m found }}
  http-request set-var(txn.canonical) var(txn.canonical),concat(:,txn.port) if {{ var(txn.port) -m found }}
  http-request redirect code 301 location %[var({PROTO})]://%[var(txn.canonical)]%[pathq] if {{ var(txn.canonical) -m found }} {{ path -m beg / }} {{ method GET HEAD }}
  http-request redirect code 308 location %[var({PROTO})]://%[var(txn.canonical)]%[pathq] if {{ var(txn.canonical) -m found }} {{ path -m beg / }}
  http-request deny deny_status 400 if {{ var(txn.canonical) -m found }}
  http-request set-var(txn.draw) rand({DRAWS})
  http-request set-var(txn.backend) var(txn.app),concat(/),map({ROUTES_MAP})
  http-request set-var(txn.drawn) var(txn.app),concat(/,txn.draw),map({ROUTES_MAP})
  http-request set-var(txn.backend) var(txn.drawn) if {{ var(txn.drawn) -m found }}"""  # noqa: E501


def frontend_section(state: State, settings: Settings) -> str:
    further = _FURTHER.replace("NOT_FOUND", not_found_answer(settings))
    return "\n".join([_head(settings), _AT_ONCE, further, *_pins(state), _LEAD])


def _head(settings: Settings) -> str:
    # A socket that HAProxy was handed, or else its own: the file is enough for one that is started by hand.
    binds = "\n".join(f'  bind "${{{variable}-{bind}}}"' for variable, bind in settings.listen().items())
    return f"""\
frontend http
{binds}
{SUCCESSOR_BIND}
{ACCESS_LINES}
{PASS_ON}
{forwarded(settings.trusted)}
  http-request deny deny_status 400 if {{ req.ver 1.0 }} {{ req.hdr(transfer-encoding) -m found }}"""


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
