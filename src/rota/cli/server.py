"""Where the server is and with which token it is spoken to: from the environment; read by cli.connection."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from rota.core.errors import UsageError

DEFAULT_URL = "http://127.0.0.1:7700"


@dataclass(frozen=True)
class ServerAddress:
    """``token`` is None when none was found: the server will say what it thinks of that. ``token_place`` names where
    it was looked for."""

    url: str
    host: str
    port: int
    token: str | None
    token_place: str

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def server_address() -> ServerAddress:
    """``ROTA_SERVER``, ``ROTA_TOKEN`` and ``ROTA_DATA_DIR`` (design.md, "Environment"). Raises UsageError."""
    url = os.environ.get("ROTA_SERVER") or DEFAULT_URL
    host, port = _host_and_port(url)
    token, place = _token()
    return ServerAddress(url.rstrip("/"), host, port, token, place)


def data_directory() -> Path:
    given = os.environ.get("ROTA_DATA_DIR")
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path("/var/lib/rota")
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "rota"


def _host_and_port(url: str) -> tuple[str, int]:
    wrong = UsageError(f"ROTA_SERVER is {url!r}; write it as {DEFAULT_URL}")
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise wrong from None
    if parts.scheme != "http" or not parts.hostname or parts.path.strip("/") or parts.query:
        raise wrong
    return parts.hostname, port


def _token() -> tuple[str | None, str]:
    token = os.environ.get("ROTA_TOKEN")
    if token:
        return _checked(token.strip(), "ROTA_TOKEN"), "ROTA_TOKEN"
    file = data_directory() / "admin.token"
    try:
        return _checked(file.read_text(encoding="ascii").strip(), str(file)), str(file)
    except (OSError, UnicodeDecodeError):
        return None, str(file)


def _checked(token: str, place: str) -> str:
    """Whatever else it holds could not be sent."""
    if not (token.isascii() and token.isprintable()):
        raise UsageError(f"the token of {place} has characters that no token has; it is one line of letters and digits")
    return token
