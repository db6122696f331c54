"""Which port belongs to which replica, durably; asked by the process runtime."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rota.adapters.runtime.leases import Leases, of
from rota.core.errors import StartFailed
from rota.core.names import ReplicaId
from rota.core.spec import AppSpec
from rota.core.tcp import targets


class PortLeases(Leases):
    """Outside of the kernel's ephemeral range, so that no outgoing connection is in the way."""

    def __init__(
        self, path: Path, now: Callable[[], float], ports: range = range(20000, 30000), host: str = "127.0.0.1"
    ) -> None:
        def free(port: int) -> bool:
            """Whether nobody listens there; with SO_REUSEADDR only a listener is in the way of bind (socket(7))."""
            return _binds(socket.AF_INET, host, port) and _binds(socket.AF_INET6, "::", port)

        super().__init__(path, now, ports, "port", free)

    def lease_all(self, replica: ReplicaId, spec: AppSpec) -> tuple[int, dict[int, int]]:
        """Its ``PORT``, and those for the ones that the file names. Raises StartFailed."""
        try:
            main = self.lease(replica)
            named = targets(spec.ports)
            return main, {port: main if port == spec.main_port else self.lease(of(replica, port)) for port in named}
        except StartFailed:
            self.give_back(replica)
            raise


def _binds(family: socket.AddressFamily, host: str, port: int) -> bool:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                with suppress(OSError):
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind((host, port))
    except OSError as error:
        # A machine without IPv6 has nobody listening there.
        return family == socket.AF_INET6 and not isinstance(error, PermissionError) and error.errno != errno.EADDRINUSE
    return True
