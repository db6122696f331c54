"""The text of haproxy.cfg: pure, from the state; written to disk by the adapter."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.backends import backend_sections
from rota.adapters.balancer.haproxy.closed import closed_sections
from rota.adapters.balancer.haproxy.frontend import frontend_section
from rota.adapters.balancer.haproxy.limits import CLIENT_TIMEOUT
from rota.adapters.balancer.haproxy.notfound import not_found_sections
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import App, State, line_of
from rota.adapters.balancer.haproxy.succession import SUCCESSOR_SECTION
from rota.adapters.balancer.haproxy.tcp import TCP_DEFAULTS, tcp_frontends
from rota.adapters.balancer.haproxy.words import ms
from rota.core.healthcheck import CONNECTING
from rota.core.http import IDLE_TIMEOUT, LEAST_RESPONSE_TIMEOUT


class Sections:
    """Each app's part of the file, made anew only when the app is another: with 1,000 apps and 10,000 servers the whole
    takes 150 ms (measured)."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[App, str, str]] = {}

    def of(self, app: App, key: str) -> tuple[str, str]:
        """Its line of the state, and its backends."""
        made = self._made.get(app.name)
        if made is None or made[0] is not app:
            pools = (section for _, pool in sorted(app.pools.items()) for section in backend_sections(app, pool, key))
            made = self._made[app.name] = (app, line_of(app), "".join(f"{section}\n" for section in pools))
        return made[1:]


def render(state: State, settings: Settings, key: str, sections: Sections | None = None) -> str:
    """haproxy.cfg; ``key``, always the same for the same ``sections``, makes the sticky apps' cookies what nobody can
    guess. Raises ValueError for a name, host, path, cookie or address that the core's types would not let through."""
    made = sections or Sections()
    apps = [made.of(app, key) for _, app in sorted(state.apps.items())]
    head = ["# Written by rota; changes made by hand are lost.", *(line for line, _ in apps), *state.notes()]
    front = [frontend_section(state, settings), *tcp_frontends(state, settings)]
    common = [_head(settings), *front, SUCCESSOR_SECTION, *closed_sections(state), *not_found_sections(state), ""]
    return "\n".join([*head, *common]) + "".join(pools for _, pools in apps)


def _head(settings: Settings) -> str:
    return f"""\
global
  maxconn {settings.maxconn}
  hard-stop-after {ms(settings.hard_stop)}
  stats socket unix@stats.sock mode 600 level admin expose-fd listeners
  stats timeout 24h
{TCP_DEFAULTS}
defaults
  mode http
  timeout connect {ms(CONNECTING)}
  timeout client {ms(CLIENT_TIMEOUT)}
  timeout http-request {ms(settings.head_timeout)}
  timeout http-keep-alive 20s
  timeout server {ms(LEAST_RESPONSE_TIMEOUT)}
  timeout tunnel {ms(IDLE_TIMEOUT)}
  option idle-close-on-response
  http-reuse safe
  retries 3
  option redispatch 1
  retry-on conn-failure empty-response"""
