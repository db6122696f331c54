"""A pool's sections of haproxy.cfg and the words of its servers, in the file and over the socket: pure."""

from __future__ import annotations

import re

from rota.adapters.balancer.haproxy.limits import limit_lines
from rota.adapters.balancer.haproxy.pages import page_lines
from rota.adapters.balancer.haproxy.parts import Part, parts_of, replica_of
from rota.adapters.balancer.haproxy.state import App, Pool
from rota.adapters.balancer.haproxy.tcp import sends, tcp_backend
from rota.adapters.balancer.haproxy.words import cookie_name, ms, quoted, word, written
from rota.core.backend import Backend
from rota.core.balance import Balance, header_of
from rota.core.names import domain_name, replica_number
from rota.core.sticky import SameSite

# Consistent: else a server can be added by a reload only. Avalanche: values that are alike spread better.
_CONSISTENT = "  hash-type consistent sdbm avalanche"
_BALANCE = {
    "round-robin": ("  balance roundrobin",),
    "leastconn": ("  balance leastconn",),
    "random": ("  balance random",),
    "source": ("  balance source", _CONSISTENT),
}
_CHECK_PATH = re.compile(r"/[!-~]*", re.ASCII)


def backend_sections(app: App, pool: Pool, key: str) -> list[str]:
    """The pool's own, and one for each of its TCP services."""
    parts = [
        (part, server.weight)
        for _, server in sorted(app.servers.items())
        if server.backend == pool.name
        for part in parts_of(server)
    ]

    def lines(service: int | None) -> list[str]:
        of_it = (entry for entry in parts if entry[0].service == service)
        return [f"  server {word(part.name)} {server_words(pool.backend, part, weight)}" for part, weight in of_it]

    balance = _balance_of_tcp(pool.backend)
    services = [tcp_backend(pool, service, balance, lines(service[0])) for service in pool.backend.tcp]
    return ["\n".join([*_section(pool, key), *lines(None)]), *services]


def _section(pool: Pool, key: str) -> list[str]:
    return [
        f"backend {word(pool.name)}",
        *_balance(pool.backend),
        "  http-request disable-l7-retry unless { method GET HEAD OPTIONS }",
        f"  timeout check {ms(pool.backend.timeout)}",
        *limit_lines(pool.backend),
        *page_lines(pool.backend),
        *_check(pool.backend, pool.host),
        *_cookie(pool.backend, key),
    ]


def _balance(backend: Backend) -> tuple[str, ...]:
    header = header_of(backend.balance)
    return _BALANCE[backend.balance] if header is None else (f"  balance hdr({header})", _CONSISTENT)


def _balance_of_tcp(backend: Backend) -> tuple[str, ...]:
    """No connection has a header: where that is to choose, who has the least open does."""
    return _BALANCE["leastconn"] if header_of(backend.balance) is not None else _balance(backend)


def server_words(backend: Backend, part: Part, weight: int) -> str:
    """What follows the server's name in the file and in ``add server``.

    ``id``: where a hash chooses, 2.6 gives all servers that are added at runtime the same place, and only two of them
    requests (measured); with one of its own each has the same place in every process, so a reload moves nobody.

    ``weight``: a dynamic server's own default is 1 (measured).

    ``pool-…``: HAProxy's own defaults, which 2.6 does not give a server that is added at runtime: it keeps no
    connection to it, and each request makes one, at twice the CPU (measured; bench/balancer.py).

    ``observe layer4``: after 3 refused connections in a row the server counts as failing its last but one check and
    is checked at once, so a dead one is out after one fast check. ``mark-down`` would be faster by that check, but
    a full accept queue under overload would then take out every server together."""
    told = sends(backend.tcp, part.service)
    return (
        f"{written(part.address)}{_place(backend, part)} weight {weight}{told} check inter {ms(backend.interval)}"
        f" fastinter {ms(backend.fast_interval)} fall {backend.fall} rise {backend.rise}"
        " pool-max-conn -1 pool-purge-delay 5s observe layer4 error-limit 3 on-error sudden-death"
    )


def _place(backend: Backend, part: Part) -> str:
    by_header = header_of(backend.balance) is not None and part.service is None
    hashed = backend.balance == Balance.SOURCE.value or by_header
    return f" id {replica_number(replica_of(part.name))}" if hashed else ""


def _check(backend: Backend, host: str) -> list[str]:
    if backend.check_path is None:
        return []
    if not _CHECK_PATH.fullmatch(backend.check_path):
        raise ValueError(f"{backend.check_path!r} is not a path of a health check")
    send = f"  http-check send meth GET uri {quoted(backend.check_path)} ver HTTP/1.1 hdr Host {domain_name(host)}"
    return ["  option httpchk", send, *_expected(backend.expect_body)]


def _expected(body: str | None) -> list[str]:
    """With a rule of our own HAProxy's default one, that of the status, no longer holds by itself."""
    if body is None:
        return []
    if not body.isprintable() or not body:
        raise ValueError(f"{body!r} is not a text of one line to expect")
    return ["  http-check expect status 200-399", f"  http-check expect string {quoted(body)}"]


def _cookie(backend: Backend, key: str) -> list[str]:
    """``dynamic``: the value is a hash of the key and a server's address, so it says nothing, is the same in every
    backend and HAProxy process, and needs no name of a server."""
    if backend.cookie is None:
        return []
    age = "" if backend.cookie_age is None else f' attr "Max-Age={round(backend.cookie_age)}"'
    name = cookie_name(backend.cookie)
    site = SameSite(backend.cookie_site).value.capitalize()
    attributes = f'httponly{" secure" * backend.cookie_secure} attr "SameSite={site}"{age}'
    return [f"  dynamic-cookie-key {word(key)}", f"  cookie {name} insert indirect nocache dynamic {attributes}"]
