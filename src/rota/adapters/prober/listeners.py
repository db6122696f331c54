"""Who listens on a TCP port of this machine, by sock_diag(7) and /proc; asked by the prober."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rota.core.observation import Address

_LISTEN = "0A"  # TCP_LISTEN, include/net/tcp_states.h
_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20  # linux/netlink.h, linux/sock_diag.h
_REQUEST, _DUMP = 0x01, 0x300
_ERROR, _DONE = 2, 3
_ANY = {"0.0.0.0", "::"}
_LOOPBACK_BY_SIX = "::ffff:127.0.0.1"
_NAME_SERVER = "127.0.0.11"  # Docker's own, in each container's namespace


@dataclass(frozen=True)
class Listener:
    host: str
    port: int
    inode: int

    @property
    def is_loopback(self) -> bool:
        return self.host.startswith("127.") or self.host in ("::1", _LOOPBACK_BY_SIX)

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
    """All listening TCP sockets of this network namespace. The kernel is asked for these alone; where it has no such
    interface /proc tells, at the price of a walk over all connections."""
    for family, table in ((socket.AF_INET, "/proc/net/tcp"), (socket.AF_INET6, "/proc/net/tcp6")):
        try:
            found = list(_diagnosed(family))
        except OSError:
            with suppress(FileNotFoundError):  # no IPv6 here
                found = list(_listed(table))
        yield from found


def listeners_in_namespace_of(pid: int) -> Iterator[Listener]:
    """All listening TCP sockets of the network namespace that a process is in, a container engine's own left out;
    nothing of one that has ended or may not be looked at."""
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
            yield from (one for one in _listed(f"/proc/{pid}/net/{table}") if one.host != _NAME_SERVER)


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


def _diagnosed(family: int) -> Iterator[Listener]:
    """By sock_diag(7). Raises OSError where the kernel has none."""
    request = struct.pack("=BBBxI48x", family, socket.IPPROTO_TCP, 0, 1 << int(_LISTEN, 16))
    header = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST | _DUMP, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asked:
        asked.settimeout(1.0)
        asked.sendall(header + request)
        while True:
            for kind, body in _messages(asked.recv(65536)):
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    raise OSError(-struct.unpack_from("=i", body)[0], "sock_diag")
                yield _diagnosis(body)


def _messages(answer: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages of one datagram (netlink(7)), each padded to four bytes."""
    while answer:
        length, kind = struct.unpack_from("=IH", answer)
        yield kind, answer[16:length]
        answer = answer[(length + 3) & ~3 :]


def _diagnosis(body: bytes) -> Listener:
    """struct inet_diag_msg: family, state, two more; then the ports and addresses; the inode is last."""
    (port,) = struct.unpack_from("!H", body, 4)
    raw = body[8:12] if body[0] == socket.AF_INET else body[8:24]
    return Listener(_written(raw), port, struct.unpack_from("=I", body, 68)[0])


def _listed(table: str) -> Iterator[Listener]:
    with open(table, encoding="ascii") as lines:
        next(lines)  # the names of the columns
        for line in lines:
            fields = line.split()
            if fields[3] != _LISTEN:
                # The listening ones come first (the kernel's proc_net_tcp document); thousands of others may follow.
                return
            host, _, port = fields[1].rpartition(":")
            yield Listener(host_of(host), int(port, 16), int(fields[9]))


def _links(pid: int) -> Iterator[str]:
    """What the process has open; nothing of one that has ended or is another user's."""
    directory = f"/proc/{pid}/fd"
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for entry in os.listdir(directory):
            with suppress(FileNotFoundError, ProcessLookupError):
                yield os.readlink(f"{directory}/{entry}")


def host_of(text: str) -> str:
    """/proc prints an address as 32-bit words in the machine's byte order."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[at : at + 4][::-1] for at in range(0, len(raw), 4))
    return _written(raw)


def _written(raw: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)
