"""The door: decides before any route runs whether a request comes in; wrapped around the whole API.

Three checks: the Host is a loopback name (a page that rebinds its DNS name to 127.0.0.1 is turned away), the bearer
token is the administrator's, and a JSON body stays under its limit."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from rota.api.problems import problem, problem_of
from rota.core.errors import NotAllowed

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
SOURCES_PATH = "/api/v1/sources"
MAX_JSON_BYTES = 8 * 2**20


class Guard:
    """ASGI middleware; ``token_sha256`` is the SHA-256 of the token, in hex: the token itself is kept nowhere."""

    def __init__(self, app: ASGIApp, token_sha256: str) -> None:
        self._app = app
        self._token_sha256 = token_sha256

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if not _is_loopback(headers.get("host", "")):
            refusal = problem(421, "wrong-host", "the API answers under a loopback name only, such as 127.0.0.1")
            await refusal(scope, receive, send)
        elif scope["path"] not in OPEN_PATHS and not self._has_token(headers):
            await problem_of(NotAllowed("a valid token is needed: Authorization: Bearer …"))(scope, receive, send)
        elif scope["path"] == SOURCES_PATH:
            await self._app(scope, receive, send)  # streamed to disk; the sources have a limit of their own
        elif _length(headers) > MAX_JSON_BYTES:
            await problem(413, "too-large", _TOO_LARGE)(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), send)

    def _has_token(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.strip().encode()).hexdigest()
        return scheme.lower() == "bearer" and hmac.compare_digest(digest, self._token_sha256)


_TOO_LARGE = f"a body is at most {MAX_JSON_BYTES // 2**20} MiB"


def _is_loopback(host: str) -> bool:
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    name = name.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _length(headers: Headers) -> int:
    text = headers.get("content-length", "")
    return int(text[:18]) if text.isascii() and text.isdigit() else 0


def _limited(receive: Receive) -> Receive:
    """A body without a Content-Length is counted as it comes."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > MAX_JSON_BYTES:
            raise HTTPException(413, _TOO_LARGE)
        return message

    return counted
