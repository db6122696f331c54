"""The addresses that a server listens at: had, or refused in words that name the option; used by the daemon alone."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from rota.adapters.prober.listeners import held_by, listeners
from rota.core.errors import Missing


@contextlib.contextmanager
def listening(address: tuple[str, int]) -> Iterator[socket.socket]:
    """The API's socket. Raises Missing when the port is in use."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            raise _in_use(address, "--api", error) from error
        yield listener


def refuse_in_use(http: str, own: frozenset[int]) -> None:
    """Raises Missing when another program than these processes listens there. HAProxy would not start then, with a
    message that names neither the option nor the way out; one that runs shares the port with another of the same user,
    and each would get half of the requests."""
    host, _, port = http.rpartition(":")
    host = host.strip("[]*")
    address = host, int(port)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _all_held_by(own, address[1]):
                raise _in_use(address, "--http", error) from error


def _all_held_by(pids: frozenset[int], port: int) -> bool:
    found = frozenset(one.inode for one in listeners() if one.port == port)
    return bool(pids) and held_by(found, pids) == found


def _in_use(address: tuple[str, int], option: str, error: OSError) -> Missing:
    return Missing(
        f"cannot listen on {address[0]}:{address[1]} ({error.strerror}); "
        f"give {option} another address, or end what has the port"
    )
