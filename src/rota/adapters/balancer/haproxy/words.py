"""Values as HAProxy's file and its socket take them, each refused that would be read as something else; used by all
that writes either."""

from __future__ import annotations

import ipaddress
import re

from rota.core.names import ReplicaId
from rota.core.observation import Address

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_COOKIE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)


def word(name: str | ReplicaId) -> str:
    """A name that HAProxy takes as it is; raises ValueError for any other."""
    if not _WORD.fullmatch(name):
        raise ValueError(f"{name!r} is not a name for HAProxy")
    return name


def written(address: Address) -> str:
    """``127.0.0.1:80`` or ``[::1]:80``; raises ValueError for what is no IP address."""
    host = ipaddress.ip_address(address.host)
    if not 0 < address.port < 65536:
        raise ValueError(f"{address.port} is not a port")
    return f"[{host}]:{address.port}" if host.version == 6 else f"{host}:{address.port}"


def cookie_name(name: str) -> str:
    """A cookie's name; raises ValueError for what is none."""
    if not _COOKIE.fullmatch(name):
        raise ValueError(f"{name!r} is not a name of a cookie")
    return name


def quoted(text: str) -> str:
    """HAProxy's strong quotes: nothing between them is special, and a quote itself stands outside, escaped."""
    return "'" + text.replace("'", "'\\''") + "'"


def ms(seconds: float) -> str:
    """Seconds as HAProxy takes them."""
    return f"{max(1, round(seconds * 1000))}ms"
