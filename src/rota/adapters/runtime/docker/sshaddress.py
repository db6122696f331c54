"""An engine's address over SSH, ``ssh://user@host:port/path`` as the docker command takes it, and the ssh command that
leads there; used by the tunnel. Pure.

The address is somebody's text, and what becomes of it are another program's arguments: each part has to look like what
it is."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Self

from rota.core.errors import UsageError

SCHEME = "ssh://"
ENGINE_SOCKET = "/var/run/docker.sock"
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}", re.ASCII)  # a name in ssh's own configuration, too
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
# ssh has meanings of its own for colons, backslashes, % and $ in a path; a Unix socket's is at most 107 bytes long.
_PATH = re.compile(r"/[A-Za-z0-9._/-]{1,106}", re.ASCII)
_ALIVE_EVERY, _ALIVE_TRIES = 5, 3  # seconds; the other side is given up after 15 to 20 without an answer
_CONNECT = 10  # seconds


@dataclass(frozen=True)
class SshAddress:
    """``user`` and ``port`` None: as ssh's configuration has it. ``socket`` is the engine's there."""

    host: str
    user: str | None = None
    port: int | None = None
    socket: str = ENGINE_SOCKET

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises UsageError, which does not show a password that somebody has put there."""
        place, slash, path = text.removeprefix(SCHEME).partition("/")
        user, at, where = place.rpartition("@")
        host, port = _split(where)
        if at and not _USER.fullmatch(user):
            raise _wrong("the user's name", "keys and passwords are ssh's own business, not the address's")
        if not _is_host(host):
            raise _wrong("the host", "it is a name, an address, or a host of ssh's configuration")
        if port is not None and not (_PORT.fullmatch(port) and 1 <= int(port) <= 65535):
            raise _wrong("the port")
        socket = slash + path if path else ENGINE_SOCKET
        if not _PATH.fullmatch(socket):
            raise _wrong("the path of the engine's socket", "it has letters, digits and ._- only")
        return cls(host, user if at else None, int(port) if port is not None else None, socket)

    def command(self, local: str) -> list[str]:
        """``local`` is the socket to make, in the directory that ssh is started in (``./name``: with a slash ssh takes
        it for a path, and a longer one might have characters that mean something to it).

        Whom to trust, with which key and by which way is what the user's ssh says. Its master connections are not
        used: one that somebody else ends, or that outlives this, is no tunnel to rely on."""
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": _CONNECT,
            "ControlMaster": "no",
            "ControlPath": "none",
            "ExitOnForwardFailure": "yes",
            "LogLevel": "INFO",
            "PermitLocalCommand": "no",
            "RemoteCommand": "none",
            "ServerAliveCountMax": _ALIVE_TRIES,
            "ServerAliveInterval": _ALIVE_EVERY,
            "StreamLocalBindMask": "0177",
            "StreamLocalBindUnlink": "yes",
        }
        given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        user = ["-l", self.user] if self.user is not None else []
        port = ["-p", str(self.port)] if self.port is not None else []
        # Nothing but the forwarding: no command, no terminal, no agent, no display.
        return ["ssh", "-N", "-T", "-a", "-x", *given, *user, *port, "-L", f"{local}:{self.socket}", "--", self.host]


def _split(where: str) -> tuple[str, str | None]:
    """Host and port; an IPv6 address is in brackets."""
    if where.startswith("["):
        host, bracket, rest = where[1:].partition("]")
        if bracket and (not rest or rest.startswith(":")):
            return host, rest[1:] if rest else None
        return "", None
    host, colon, port = where.partition(":")
    return host, port if colon else None


def _is_host(text: str) -> bool:
    if _HOST.fullmatch(text):
        return True
    try:
        return "%" not in text and bool(ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _wrong(part: str, reason: str = "") -> UsageError:
    said = f"{part} in the Docker engine's address cannot be used: write ssh://user@host, ssh://user@host:port/path"
    return UsageError(f"{said}; {reason}" if reason else said)
