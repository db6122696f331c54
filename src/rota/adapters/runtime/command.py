"""The arguments of a replica's command, the same on every runtime; pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

_PORT = re.compile(r"\$(?:\{PORT\}|PORT(?![A-Za-z0-9_]))")


def with_port(command: Sequence[str], port: int) -> list[str]:
    """The arguments with ``$PORT`` and ``${PORT}`` replaced; no shell, nothing else is expanded."""
    return [_PORT.sub(str(port), word) for word in command]
