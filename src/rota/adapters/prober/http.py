"""One health check over HTTP: the request, and what the answer has to be like; asked by the prober.

As HAProxy's own check does it in rotation: 2xx and 3xx pass, redirects are not followed, and a body that is expected is
looked for at the body's beginning."""

from __future__ import annotations

import asyncio
import re
import socket

from rota.core.healthcheck import BODY_SEARCHED
from rota.ports.prober import ProbeResult

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r|\n|$)")
_MOST_HEADERS = 8192
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_CHUNKED = re.compile(rb"\ntransfer-encoding:[^\n]*\bchunked\s*(?:\n|$)", re.IGNORECASE)
_LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,18})\s*(?:\n|$)", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[^\n]*\n")


async def get(connection: socket.socket, path: str, host: str, expect_body: str | None) -> ProbeResult:
    """The headers are read to their end, so that the app has not written to a closed connection. Raises OSError."""
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: rota\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    await asyncio.get_running_loop().sock_sendall(connection, request.encode())
    answer = b""
    while len(answer) < _MOST_HEADERS and not _HEADER_END.search(answer) and (piece := await _received(connection)):
        answer += piece
    if not answer:
        return ProbeResult("the connection was closed without an answer")
    status = _STATUS.match(answer)
    if status is None:
        return ProbeResult("the answer is not HTTP")
    if status[1][:1] not in b"23":
        return ProbeResult(f"HTTP {status[1].decode()}")
    if expect_body is None or await _has(connection, answer, expect_body.encode()):
        return ProbeResult()
    return ProbeResult(f"HTTP {status[1].decode()}, and its body does not have the text of expect_body")


async def _has(connection: socket.socket, answer: bytes, expected: bytes) -> bool:
    """Whether the body has it, as far as that is searched; it is read no further than it takes to say."""
    end = _HEADER_END.search(answer)
    if end is None:
        return False
    headers, body = answer[: end.start()], answer[end.end() :]
    chunked, length = _CHUNKED.search(headers), _LENGTH.search(headers)
    limit = BODY_SEARCHED if length is None or chunked else min(BODY_SEARCHED, int(length[1]))
    while expected not in (content := _without_chunks(body) if chunked else body)[:limit]:
        if len(content) >= limit or len(body) > 2 * BODY_SEARCHED:
            return False
        piece = await _received(connection)
        if not piece:
            return False
        body += piece
    return True


def _without_chunks(body: bytes) -> bytes:
    """What has come of a body in chunks (RFC 9112, 7.1)."""
    content, at = b"", 0
    while (size := _CHUNK.match(body, at)) is not None and int(size[1], 16):
        content += body[size.end() : size.end() + int(size[1], 16)]
        at = size.end() + int(size[1], 16) + 2
    return content


async def _received(connection: socket.socket) -> bytes:
    return await asyncio.get_running_loop().sock_recv(connection, _MOST_HEADERS)
