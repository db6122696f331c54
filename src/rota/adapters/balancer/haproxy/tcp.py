"""The sections of haproxy.cfg that carry TCP services: a frontend for each place to listen at, and a backend for each
service of a pool; pure, written by config.py, the frontends' names read by balancer.py and view.py.

A frontend's name says all that only a reload can change about it, so that the running process tells whether it listens
as it is to. Whose a connection is, and which pool's, is in the maps."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from rota.adapters.balancer.haproxy.access import ACCESS_LINES_OF_TCP
from rota.adapters.balancer.haproxy.maps import DRAWS, ROUTES_MAP
from rota.adapters.balancer.haproxy.parts import service_backend
from rota.adapters.balancer.haproxy.settings import Settings, bind_error
from rota.adapters.balancer.haproxy.state import Pool, State
from rota.adapters.balancer.haproxy.stats import PREFIX
from rota.adapters.balancer.haproxy.words import ms, word
from rota.core.healthcheck import CONNECTING
from rota.core.http import IDLE_TIMEOUT
from rota.core.names import app_name
from rota.core.tcp import Listener

DEFAULTS = "tcp"
_HELLO = 5.0  # seconds in which a TLS client says whom it wants
_SENDS = {"": "", "v1": " send-proxy", "v2": " send-proxy-v2"}

TCP_DEFAULTS = f"""\
defaults {DEFAULTS}
  mode tcp
  timeout connect {ms(CONNECTING)}
  timeout client 60s
  timeout server 60s
  timeout tunnel {ms(IDLE_TIMEOUT)}
  option clitcpka
  option srvtcpka
  retries 3
  option redispatch 1"""
"""The first two timeouts hold until a connection is through; from then on ``timeout tunnel`` does."""


def frontend_name(listener: Listener) -> str:
    kind = ("sni" if listener.names else "all") + ("-proxy" if listener.behind_proxy else "")
    return f"{PREFIX}{listener.port}:{kind}:{listener.host}"


def frontend_names(state: State) -> frozenset[str]:
    return frozenset(frontend_name(listener) for app in state.apps.values() for listener in app.listeners)


def not_bindable(listeners: Iterable[Listener], running: Collection[str]) -> str:
    """Why HAProxy, which has the ``running`` frontends, could not listen there as well; "" if it could."""
    held = {int(name.split(":")[1]) for name in running}
    errors = (bind_error(listener.place) for listener in sorted(listeners) if listener.port not in held)
    return next(filter(None, errors), "")


def tcp_frontends(state: State, settings: Settings) -> list[str]:
    doors: dict[str, tuple[Listener, str]] = {}
    for name, app in sorted(state.apps.items()):
        for listener in app.listeners:
            doors[frontend_name(listener)] = listener, name
    return [_frontend(name, *door, settings) for name, door in sorted(doors.items())]


def tcp_backend(pool: Pool, service: tuple[int, str, float], balance: Iterable[str], servers: Iterable[str]) -> str:
    """``servers`` are its lines."""
    port, _, idle = service
    lines = [
        f"backend {word(service_backend(pool.name, port))} from {DEFAULTS}",
        *balance,
        f"  timeout check {ms(pool.backend.timeout)}",
        *([] if pool.backend.access_log else ["  tcp-request content set-log-level silent"]),
        *([] if idle == IDLE_TIMEOUT else [f"  timeout tunnel {ms(idle)}"]),
        *servers,
    ]
    return "\n".join(lines)


def sends(services: Iterable[tuple[int, str, float]], service: int | None) -> str:
    """The words by which a server is told the user's address; checks tell theirs as well then."""
    versions: Mapping[int, str] = {port: version for port, version, _ in services}
    return "" if service is None else _SENDS[versions.get(service, "")]


def _frontend(name: str, listener: Listener, app: str, settings: Settings) -> str:
    """``app`` is whose all connections are, where they are not told apart by name."""
    route = f"var(txn.app),concat(:{listener.port})"
    lines = [
        f"frontend {name} from {DEFAULTS}",
        f"  bind {listener.place}",
        ACCESS_LINES_OF_TCP,
        *_told_by_proxies(listener, settings),
        *(_by_name(listener) if listener.names else [f"  tcp-request content set-var(txn.app) str({app_name(app)})"]),
        "  tcp-request content set-log-level silent unless { var(txn.app) -m found }",
        "  tcp-request content reject unless { var(txn.app) -m found }",
        f"  tcp-request content set-var(txn.draw) rand({DRAWS})",
        f"  tcp-request content set-var(txn.backend) {route},map({ROUTES_MAP})",
        f"  tcp-request content set-var(txn.drawn) {route},concat(/,txn.draw),map({ROUTES_MAP})",
        "  tcp-request content set-var(txn.backend) var(txn.drawn) if { var(txn.drawn) -m found }",
        "  tcp-request content reject unless { var(txn.backend) -m found }",
        "  use_backend %[var(txn.backend)]",
    ]
    return "\n".join(lines)


def _told_by_proxies(listener: Listener, settings: Settings) -> list[str]:
    """Others are taken as they come: nobody may say that he is another."""
    if not listener.behind_proxy or not settings.trusted:
        return []
    believed = "  tcp-request connection expect-proxy layer4 if from_proxy"
    return [*(f"  acl from_proxy src {network}" for network in settings.trusted), believed]


def _by_name(listener: Listener) -> list[str]:
    """The first rule waits for what the client says; a name that is nobody's may be a wildcard's."""
    key = f"str(:{listener.port}/),concat(,txn.name),map({ROUTES_MAP})"
    return [
        f"  tcp-request inspect-delay {ms(_HELLO)}",
        "  tcp-request content set-var(txn.name) req.ssl_sni,lower,rtrim(.) if { req.ssl_hello_type 1 }",
        f"  tcp-request content set-var(txn.app) {key}",
        "  tcp-request content set-var(txn.above) var(txn.name),field(2,.,0) unless { var(txn.app) -m found }",
        "  tcp-request content set-var(txn.name) str(*.),concat(,txn.above) unless { var(txn.app) -m found }",
        f"  tcp-request content set-var(txn.app) {key} unless {{ var(txn.app) -m found }}",
    ]
