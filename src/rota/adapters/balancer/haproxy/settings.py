"""Where HAProxy listens and keeps its files, and how long it may hold on; chosen once by the composition root."""

from __future__ import annotations

import errno
import ipaddress
import re
import resource
import socket
from dataclasses import dataclass, field
from pathlib import Path

from rota.core.errors import UsageError
from rota.core.spec import MAX_DRAIN

_BIND = re.compile(r"(\*|[0-9.]{7,15}|\[[0-9a-fA-F:.]{2,45}\])?:[0-9]{1,5}", re.ASCII)
_LONGEST_SOCKET_PATH = 107  # unix(7): sun_path, less its NUL
_SPARE_FILES = 600  # listeners, sockets, checks of some hundred servers
_MOST_CONNECTIONS = 20_000


def fitting_maxconn() -> int:
    """A ``maxconn`` within the open files allowed here: a proxied connection needs two, and HAProxy does not start
    when they are not there (measured)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return _MOST_CONNECTIONS
    return max(100, min(_MOST_CONNECTIONS, (hard - _SPARE_FILES) // 2))


def can_bind(bind: str) -> bool:
    """Whether nobody listens on an address now."""
    return not bind_error(bind)


def bind_error(bind: str) -> str:
    """Why nobody else could listen on an address now, in a person's words; "" if somebody could."""
    host, _, port = bind.rpartition(":")
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]*"), int(port)))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"another program listens on {bind}"
            return f"nobody can listen on {bind}: {error.strerror}"
    return ""


RELOAD_INTERVAL = 10.0  # seconds (design.md, "HAProxy's file")


@dataclass(frozen=True)
class Settings:
    """``hard_stop``, seconds, ends an old process with what is still open in it; it is to be at least the longest
    drain deadline of any app. ``reload_interval``, seconds, is the shortest time between two reloads. ``trusted``
    are the networks of proxies whose word on the user counts. ``head_timeout``, seconds, is for a request's head to be
    there whole. ``not_found_page`` is HTML for requests that no app has a page for (core.pages.page_text).

    Raises UsageError when an address is none, or when the directory's path is too long for a Unix socket."""

    directory: Path
    binds: tuple[str, ...] = ("127.0.0.1:8080",)
    hard_stop: float = 2 * MAX_DRAIN + 30.0  # for sessions, then for what is open
    reload_interval: float = RELOAD_INTERVAL
    maxconn: int = field(default_factory=fitting_maxconn)
    trusted: tuple[str, ...] = ()
    head_timeout: float = 10.0
    not_found_page: str | None = None

    def __post_init__(self) -> None:
        for bind in self.binds:
            if not _BIND.fullmatch(bind):
                raise UsageError(f"{bind!r} is not an address to listen on; write it as 127.0.0.1:8080 or [::1]:8080")
        for network in self.trusted:
            ipaddress.ip_network(network)
        if len(str(self.master_socket).encode()) > _LONGEST_SOCKET_PATH:
            raise UsageError(
                f"the path {self.directory} is too long for a Unix socket; choose a shorter data directory"
            )

    @property
    def config(self) -> Path:
        return self.directory / "haproxy.cfg"

    @property
    def cookie_key(self) -> Path:
        return self.directory / "cookie.key"

    @property
    def stats_socket(self) -> Path:
        return self.directory / "stats.sock"

    @property
    def master_socket(self) -> Path:
        return self.directory / "master.sock"

    @property
    def program(self) -> Path:
        """A link to the haproxy that is to run: a master that reloads starts itself anew by the path that it was
        started by, and so becomes what the link leads to."""
        return self.directory / "haproxy"

    def listen(self) -> dict[str, str]:
        """The addresses by the variables that haproxy.cfg has for them: each of its own, so that a file with other
        addresses does not take up what HAProxy was started with."""
        return {f"ROTA_LISTEN_{re.sub('[^0-9a-zA-Z]', '_', bind)}": bind for bind in self.binds}

    def argv(self) -> tuple[str, ...]:
        """The command to run; every path in it and in the file is relative to the directory, so none is quoted."""
        master = ("-W", "-S", "unix@master.sock,mode,600")
        return (str(self.program), *master, "-C", str(self.directory), "-f", "haproxy.cfg")
