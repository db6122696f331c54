"""Who listens on a TCP port of this machine, by /proc (proc(5)); asked by the prober."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rota.core.observation import Address

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_ANY = {"0.0.0.0", "::"}
_LOOPBACK_BY_SIX = "::ffff:127.0.0.1"


@dataclass(frozen=True)
class Listener:
    host: str
    port: int
    inode: int

    def reaches(self, address: Address) -> bool:
        """Whether a connection to the address may be given to it."""
        return self.port == address.port and (self.host in _ANY or self.host in (address.host, _LOOPBACK_BY_SIX))


@dataclass(frozen=True)
class Holder:
    """A process that has a listening socket; ``pid`` 0 is one that may not be looked at."""

    pid: int = 0
    name: str = ""

    def __str__(self) -> str:
        return f"pid {self.pid}, {self.name}" if self.pid else "of another user"


def listeners() -> Iterator[Listener]:
    """All listening TCP sockets of this network namespace."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(FileNotFoundError):  # no IPv6 here
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN:
                    host, _, port = fields[1].rpartition(":")
                    yield Listener(_host(host), int(port, 16), int(fields[9]))


def held_by(inodes: frozenset[int], pids: Iterable[int]) -> frozenset[int]:
    """Those of the sockets that one of the processes has open."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: set[int] = set()
    for pid in pids:
        if len(found) == len(inodes):
            break
        found.update(wanted[link] for link in _links(pid) if link in wanted)
    return frozenset(found)


def holder_of(inode: int) -> Holder:
    """Some process that has the socket open; this looks through all of them."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and f"socket:[{inode}]" in _links(int(entry)):
            with suppress(OSError):
                return Holder(int(entry), Path("/proc", entry, "comm").read_text().strip())
    return Holder()


def _links(pid: int) -> Iterator[str]:
    """What the process has open; nothing of one that has ended or is another user's."""
    directory = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for entry in os.listdir(directory):
            with suppress(FileNotFoundError, ProcessLookupError):
                yield os.readlink(f"{directory}/{entry}")


def _host(text: str) -> str:
    """The kernel prints an address as 32-bit words in its own byte order."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    # Written the way people write it (RFC 5952 says nothing of mapped ones; inet_ntop does).
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return f"::ffff:{address.ipv4_mapped}"
    return str(address)
