"""The text of haproxy.cfg: pure, from the state; written to disk by the adapter."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.backends import backend_section
from rota.adapters.balancer.haproxy.frontend import frontend_section
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import State
from rota.adapters.balancer.haproxy.succession import SUCCESSOR_SECTION
from rota.adapters.balancer.haproxy.words import ms


def render(state: State, settings: Settings, key: str) -> str:
    """haproxy.cfg; ``key`` makes the sticky apps' cookies what nobody can guess. Raises ValueError for a name, host,
    path, cookie or address that the core's types would not let through."""
    apps = [app for _, app in sorted(state.apps.items())]
    pools = [backend_section(app, pool, key) for app in apps for _, pool in sorted(app.pools.items())]
    head = ["# Written by rota; changes made by hand are lost.", *state.lines(), _head(settings)]
    return "\n".join([*head, frontend_section(state, settings), SUCCESSOR_SECTION, *pools, ""])


def _head(settings: Settings) -> str:
    return f"""\
global
  maxconn {settings.maxconn}
  hard-stop-after {ms(settings.hard_stop)}
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
  retry-on conn-failure empty-response"""
