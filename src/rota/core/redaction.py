"""Redaction: takes secrets out of text that leaves the machine; called for notices and for addresses that are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

HIDDEN = "(hidden)"
LEAST = 4  # characters: hiding shorter values would hide half of every text
LONG = 16  # characters without a space, from which on a value is taken for a secret whatever its name

_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|KEY|CREDENTIAL|DSN|AUTH|PRIVATE|SALT|_URL$|_URI$", re.IGNORECASE)
_IN_URL = re.compile(r"(\w://[^\s:/@]*):[^\s@]+@")
_ASSIGNED = re.compile(
    r"((?:password|passwd|secret|token|api[_-]?key|authorization)[\"']?\s*[=:]\s*(?:bearer\s+)?)[^\s,;]+", re.IGNORECASE
)


def redacted(text: str, variables: Mapping[str, str]) -> str:
    """The text without the values of variables that look like secrets, passwords in URLs and what is assigned to a
    word such as ``password``."""
    values = {value for name, value in variables.items() if _is_secret(name, value)}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    return _ASSIGNED.sub(rf"\1{HIDDEN}", _IN_URL.sub(rf"\1:{HIDDEN}@", text))


def shown(url: str) -> str:
    """An address without what may be secret in it: most services carry their token in the path."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        host = ""
    scheme = url.partition("://")[0]
    return f"{scheme}://{host if '.' in host else ''}…"


def _is_secret(name: str, value: str) -> bool:
    if len(value) < LEAST:
        return False
    return bool(_SECRET_NAME.search(name)) or (len(value) >= LONG and " " not in value and not value.startswith("/"))
