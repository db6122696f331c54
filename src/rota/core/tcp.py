"""TCP services: ``ports:`` in rota.yaml, and the listeners that the balancer makes of it; read by spec, begin, routes,
backend and the balancer's adapter.

A listener is known by its port: no two apps have the same one, unless both take only the TLS clients that ask for
names of theirs (SNI)."""

from __future__ import annotations

import enum
import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from rota.core.domains import host_name
from rota.core.http import IDLE_TIMEOUT
from rota.core.model import Model, Switch, misplaced
from rota.core.quantities import Seconds, Whole, between, quoted

LOOPBACK = "127.0.0.1"
MOST_PORT = 65535

_PLACE = re.compile(r"(?:(.*):)?([0-9]{1,5})", re.ASCII)


def _whole(value: object) -> object:
    """Haloy writes ports as texts."""
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6 else value


Port = Annotated[Whole, BeforeValidator(_whole), Field(ge=1, le=MOST_PORT)]


class Proxy(enum.Enum):
    """The PROXY protocol's versions: a text before all else, or a binary head."""

    V1 = "v1"
    V2 = "v2"


def _proxy(value: object) -> object:
    """Judged here: an enum's own error would not name true."""
    if value is None or isinstance(value, Proxy):
        return value
    if isinstance(value, bool):
        return Proxy.V2 if value else None
    if value in {version.value for version in Proxy}:
        return Proxy(value)
    raise ValueError(f"true (v2), v1 or v2 is expected, not {quoted(value)}")


@dataclass(frozen=True, order=True)
class Listener:
    """Where the users of a TCP service come in. ``names``: which of them, by the name that they ask for in TLS, "" for
    all. ``behind_proxy``: trusted proxies send the user's address ahead (PROXY protocol)."""

    port: int
    host: str = LOOPBACK
    names: tuple[str, ...] = ()
    behind_proxy: bool = False

    @property
    def place(self) -> str:
        """``127.0.0.1:5432`` or ``[::1]:5432``."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def door(self) -> tuple[int, str, bool, bool]:
        """What apps that share it have in common."""
        return self.port, self.host, bool(self.names), self.behind_proxy

    def __str__(self) -> str:
        """As people are shown it."""
        return f"tcp://{self.place}" + (f" ({', '.join(self.names)})" if self.names else "")


def _place(value: object) -> object:
    """``5432`` or ``0.0.0.0:5432`` as the latter."""
    found = _PLACE.fullmatch(str(value)) if isinstance(value, str | int) and not isinstance(value, bool) else None
    if found is None:
        raise ValueError(f"a port is expected, such as 5432, or 0.0.0.0:5432 with its address, not {quoted(value)}")
    host, port = found[1], int(found[2])
    if not 1 <= port <= MOST_PORT:
        raise ValueError(f"1 to {MOST_PORT} is expected, not {port}")
    return Listener(port, _host(LOOPBACK if host is None else host)).place


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text))
    except ValueError:
        raise ValueError(f"an address of this machine is expected, such as 0.0.0.0, not {quoted(text)}") from None


def _names(value: object) -> object:
    if isinstance(value, list | tuple):
        return value
    raise ValueError(f"a list of names is expected, such as [db.example.org], not {quoted(value)}")


def _name(value: str) -> str:
    try:
        return host_name(value)
    except ValueError:
        raise ValueError(f"a domain name is expected, not {quoted(value)}") from None


class TcpPort(Model):
    """``listen``: where users come in; ``port``: the replica's, the same number unless it is given. ``sni`` takes only
    TLS clients that ask for these names, and decrypts nothing."""

    listen: Annotated[str, BeforeValidator(_place)]
    port: Port | None = None
    sni: Annotated[tuple[Annotated[str, AfterValidator(_name)], ...], BeforeValidator(_names)] = Field(
        default=(), max_length=100
    )
    proxy_protocol: Annotated[Proxy | None, BeforeValidator(_proxy)] = None
    accept_proxy: Switch = False
    idle_timeout: Annotated[Seconds, between(1, 7 * 86400)] = IDLE_TIMEOUT

    @property
    def listener(self) -> Listener:
        host, _, port = self.listen.rpartition(":")
        return Listener(int(port), host.strip("[]"), tuple(sorted(set(self.sni))), self.accept_proxy)

    @property
    def target(self) -> int:
        """The replica's port."""
        return self.listener.port if self.port is None else self.port

    @property
    def sends(self) -> str:
        """The PROXY protocol's version that replicas are sent, "" for none."""
        return "" if self.proxy_protocol is None else self.proxy_protocol.value


def apart(entries: tuple[TcpPort, ...], http_port: int | None) -> tuple[TcpPort, ...]:
    """The entries, or an error that carries the place of the first that is in another's way, or in HTTP's."""
    seen: set[int] = set()
    for index, entry in enumerate(entries):
        if entry.listener.port in seen:
            raise misplaced(f"port {entry.listener.port} is given twice", (index, "listen"))
        seen.add(entry.listener.port)
        if entry.target == http_port:
            key = "listen" if entry.port is None else "port"
            raise misplaced(f"{http_port} is the replica's port for HTTP; TCP needs one of its own", (index, key))
    return entries


def merged(*releases: Iterable[Listener]) -> tuple[Listener, ...]:
    """The listeners of all the releases: where two have the same port, the later one says how it listens, and the names
    of both lead to the app."""
    found: dict[int, Listener] = {}
    for listener in (one for release in releases for one in release):
        before = found.get(listener.port)
        if before is not None and before.names and listener.names:
            listener = replace(listener, names=tuple(sorted({*before.names, *listener.names})))
        found[listener.port] = listener
    return tuple(sorted(found.values()))


def contested(ours: Listener, theirs: Iterable[Listener]) -> str | None:
    """What of it others have already, in words; None where nothing is in the way."""
    for other in theirs:
        if other.port != ours.port:
            continue
        if not (ours.names and other.names):
            return f"port {ours.port}"
        if ours.door != other.door:
            how = " behind a proxy" if other.behind_proxy else ""
            return f"port {ours.port}, which listens on {other.place}{how},"
        both = sorted(set(ours.names) & set(other.names))
        if both:
            return f"the name {both[0]} on port {ours.port}"
    return None


def reserved(listener: Listener, ours: Mapping[str, range]) -> str | None:
    """Which of rota's own ports it is, of those named; None for another one."""
    return next((what for what, ports in ours.items() if listener.port in ports), None)


def targets(entries: Iterable[TcpPort]) -> tuple[int, ...]:
    """The replica's ports that the file names, each once."""
    return tuple(dict.fromkeys(entry.target for entry in entries))


def variables(ports: Mapping[int, int]) -> dict[str, str]:
    """How a replica learns where to listen: ``PORT_5432`` is the port that it has for the file's 5432."""
    return {f"PORT_{named}": str(port) for named, port in sorted(ports.items())}
