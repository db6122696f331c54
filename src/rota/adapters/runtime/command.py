"""The arguments of a replica's command, the same on every runtime; pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_PORT = re.compile(r"\$(?:\{PORT(?:_([0-9]+))?\}|PORT(?:_([0-9]+))?(?![A-Za-z0-9_]))")
NONE: Mapping[int, int] = {}


def with_port(command: Sequence[str], port: int, ports: Mapping[int, int] = NONE) -> list[str]:
    """The arguments with ``$PORT`` and ``${PORT}`` replaced, and ``$PORT_5432`` where ``ports`` has 5432; no shell,
    nothing else is expanded."""

    def filled(found: re.Match[str]) -> str:
        named = found[1] or found[2]
        return str(port if named is None else ports.get(int(named), found[0]))

    return [_PORT.sub(filled, word) for word in command]
