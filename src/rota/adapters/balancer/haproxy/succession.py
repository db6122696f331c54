"""The lines of haproxy.cfg by which an old worker passes new requests on to its successor: pure; written by config.py
and frontend.py, made use of by oldworkers.py.

Every worker has the lines; they do nothing until PASSED_MAP, empty in the file, gets its one entry. The way leads
through a Unix socket, whose listener the newest worker alone has, with the user's address ahead of each request."""

from __future__ import annotations

PASSED_MAP, PASSED_KEY = "passed.map", "on"
NEXT = "_next"
"""The backend that leads to the successor, and its one server; no app's name begins so."""

_SOCKET = "unix@next.sock"

SUCCESSOR_BIND = f"  bind {_SOCKET} mode 600 accept-proxy"

PASS_ON = f"""\
  http-request set-var(txn.backend) str({PASSED_KEY}),map({PASSED_MAP})
  http-request allow if {{ var(txn.backend) -m found }}"""
"""First of all rules: the successor goes through the others."""

SUCCESSOR_SECTION = f"""\
backend {NEXT}
  http-request set-log-level silent
  http-reuse never
  timeout server 24h
  timeout tunnel 24h
  server {NEXT} {_SOCKET} send-proxy-v2"""
"""Its limits are the successor's; a connection that is used again could be closed just then, and a POST be lost."""
