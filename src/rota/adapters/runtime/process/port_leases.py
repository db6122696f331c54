"""Which port belongs to which replica, durably; asked by the process runtime."""

from __future__ import annotations

import errno
import json
import logging
import socket
import threading
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rota.adapters.durable import write_durably
from rota.core.errors import StartFailed
from rota.core.names import ReplicaId

_log = logging.getLogger(__name__)
REST = 60.0  # seconds a port is not leased again: an old HAProxy process or a client may still dial it (design.md)


@dataclass
class _Lease:
    replica: str
    until: float | None = None


class PortLeases:
    """Leases of one data directory; two data directories begin at different ports of the range. Outside of the
    kernel's ephemeral range, so that no outgoing connection is in the way. May be asked from several threads."""

    def __init__(
        self, path: Path, now: Callable[[], float], ports: range = range(20000, 30000), host: str = "127.0.0.1"
    ) -> None:
        self._path = path
        self._now = now
        self._ports = ports
        self._host = host
        self._leases = _read(path)
        self._lock = threading.Lock()
        self._next = zlib.crc32(str(path.absolute()).encode()) % len(ports)

    def lease(self, replica: ReplicaId) -> int:
        """The replica's port, the same at each asking until it is given back. Raises StartFailed when all are taken."""
        with self._lock:
            return self._lease(replica)

    def give_back(self, replica: ReplicaId) -> None:
        """Begins the rest of its port; one that has none is no error."""
        with self._lock:
            port = self._held(replica)
            if port is not None:
                self._leases[port].until = self._now() + REST
                self._write()

    def agree(self, running: Mapping[ReplicaId, int]) -> None:
        """At the start: what runs holds its port, even if the file was lost; what was leased for a replica that never
        came to be (a crash between lease and start) is given back."""
        before = {port: replace(lease) for port, lease in self._leases.items()}
        for lease in self._leases.values():
            if lease.until is None and lease.replica not in running:
                lease.until = self._now() + REST
        self._leases.update({port: _Lease(replica) for replica, port in running.items()})
        if self._leases != before:
            self._write()

    def _lease(self, replica: ReplicaId) -> int:
        held = self._held(replica)
        if held is not None:
            return held
        self._drop_rested()
        for step in range(len(self._ports)):
            place = (self._next + step) % len(self._ports)
            port = self._ports[place]
            if port not in self._leases and self._free(port):
                self._next = place + 1
                self._grant(port, replica)
                return port
        raise StartFailed(
            f"all ports from {self._ports.start} to {self._ports.stop - 1} are leased or in use on this machine"
        )

    def _grant(self, port: int, replica: ReplicaId) -> None:
        self._leases[port] = _Lease(replica)
        try:
            self._write()
        except StartFailed:
            del self._leases[port]  # a lease that is not durable is none
            raise

    def _held(self, replica: ReplicaId) -> int | None:
        return next(
            (port for port, lease in self._leases.items() if lease.replica == replica and lease.until is None), None
        )

    def _drop_rested(self) -> None:
        now = self._now()
        self._leases = {port: one for port, one in self._leases.items() if one.until is None or one.until > now}

    def _free(self, port: int) -> bool:
        """Whether nobody listens there; with SO_REUSEADDR only a listener is in the way of bind (socket(7))."""
        return _binds(socket.AF_INET, self._host, port) and _binds(socket.AF_INET6, "::", port)

    def _write(self) -> None:
        content: dict[str, Any] = {str(port): vars(lease) for port, lease in self._leases.items()}
        try:
            # What was leased is to outlive the daemon; a machine that stops ends those who had the ports as well.
            write_durably(self._path, json.dumps(content), sync=False)
        except OSError as error:
            raise StartFailed(f"the port cannot be put on record in {self._path}: {error.strerror}") from error


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


def _read(path: Path) -> dict[int, _Lease]:
    try:
        return {int(port): _Lease(**lease) for port, lease in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read (%s); the ports of what runs are taken from the keeper", path, error)
        return {}
