"""The lines of a backend's section that hold its requests to the app's limits: pure, written by backends.py."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.words import ms
from rota.core.backend import Backend
from rota.core.http import IDLE_TIMEOUT, LEAST_RESPONSE_TIMEOUT

CLIENT_TIMEOUT = LEAST_RESPONSE_TIMEOUT
"""Seconds in which a client sends nothing of a request that it has begun, or takes nothing of its answer."""


def limit_lines(backend: Backend) -> list[str]:
    """What is as in the file's defaults section needs no line."""
    lines = []
    if backend.response_timeout != LEAST_RESPONSE_TIMEOUT:
        lines.append(f"  timeout server {ms(backend.response_timeout)}")
    if backend.idle_timeout != IDLE_TIMEOUT:
        lines.append(f"  timeout tunnel {ms(backend.idle_timeout)}")
    if not backend.access_log:
        lines.append("  http-request set-log-level silent")
    if backend.max_body is not None:
        lines += _body(int(backend.max_body))
    if backend.request_timeout is not None:
        lines.append(f"  http-request wait-for-body time {ms(backend.request_timeout)}")
    return lines


def _body(most: int) -> list[str]:
    """HAProxy counts no streamed body: one of unknown length is asked to name it (RFC 9110, 15.5.12)."""
    unknown = '"This app takes bodies of a known length alone: send Content-Length.\\n"'
    return [
        f"  http-request return status 413 content-type text/plain string {_too_large(most)}"
        f" if {{ req.hdr_val(content-length) gt {most} }}",
        f"  http-request return status 411 content-type text/plain string {unknown}"
        " if { req.hdr(transfer-encoding) -m found }",
        f"  http-request return status 411 content-type text/plain string {unknown}"
        " if { req.ver 2.0 } !{ req.hdr(content-length) -m found } !{ method GET HEAD OPTIONS DELETE }",
    ]


def _too_large(most: int) -> str:
    return f'"This app takes bodies of at most {most:,} bytes.\\n"'
