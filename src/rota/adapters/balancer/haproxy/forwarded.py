"""The lines of the frontend that find out who a request's user is, and tell the app: the address, the protocol, host
and port that were asked for, and the request's id; pure, written by frontend.py.

What a stranger says about this is replaced. A trusted proxy is believed: the user is then the last of
``X-Forwarded-For`` that is no trusted proxy itself, as seen from here. The app is told one address, so that whichever
end of a list it reads, it reads the right one."""

from __future__ import annotations

from collections.abc import Sequence

PROTO = "txn.proto"
"""``http`` or ``https``, as the user's browser has it."""

_HOPS = 5  # trusted proxies in a row
_NAMES = "x[-_]forwarded[-_][^,]*|forwarded|x[-_]real[-_]ip|x[-_]request[-_]id|proxy"  # CGI and WSGI take _ for -
_ID = "^[A-Za-z0-9._:=+/-]{1,128}$"

_KNOWN = """\
  http-request set-var(txn.host) req.hdr(host)
  http-request set-var(txn.request_id) uuid()"""

_KNOWN_UNLESS_SAID = f"""\
  http-request set-var({PROTO}) str(http) unless {{ var({PROTO}) -m found }}
  http-request set-var(txn.host) req.hdr(host) unless {{ var(txn.host) -m found }}
  http-request set-var(txn.at_port) dst_port unless {{ var(txn.at_port) -m found }}
  http-request set-var(txn.request_id) uuid() unless {{ var(txn.request_id) -m found }}"""

_CLEAR = f"""\
  http-request del-header '^({_NAMES})$' -m reg if {{ req.hdr_names -m reg '(^|,)({_NAMES})(,|$)' }}"""
"""The names as one text first: to try the expression on each costs several times as much (bench/balancer.py)."""


def forwarded(trusted: Sequence[str]) -> str:
    """``trusted`` are networks."""
    if not trusted:
        return "\n".join([_KNOWN, _CLEAR, _tell("http", "dst_port")])
    told = _tell(f"%[var({PROTO})]", "var(txn.at_port)")
    return "\n".join([*_believe(trusted), _KNOWN_UNLESS_SAID, _CLEAR, told])


def _tell(proto: str, port: str) -> str:
    """Added, not set: whatever had these names is gone."""
    return f"""\
  http-request add-header X-Forwarded-For %[src]
  http-request add-header X-Forwarded-Proto {proto}
  http-request add-header X-Forwarded-Host %[var(txn.host)]
  http-request add-header X-Forwarded-Port %[{port}]
  http-request add-header X-Request-Id %[var(txn.request_id)]
  http-after-response set-header X-Request-Id %[var(txn.request_id)] if {{ var(txn.request_id) -m found }}"""


def _believe(trusted: Sequence[str]) -> list[str]:
    said = (
        f"set-var({PROTO}) req.hdr(x-forwarded-proto) if from_proxy {{ req.hdr(x-forwarded-proto) -m str http https }}",
        "set-var(txn.host) req.hdr(x-forwarded-host) if from_proxy",
        "set-var(txn.at_port) req.hdr(x-forwarded-port) if from_proxy { req.hdr(x-forwarded-port) -m int 1:65535 }",
        f"set-var(txn.request_id) req.hdr(x-request-id) if from_proxy {{ req.hdr(x-request-id) -m reg '{_ID}' }}",
        *(f"set-src req.hdr_ip(x-forwarded-for,-{hop}) if {_read_so_far(hop)}" for hop in range(1, _HOPS + 1)),
    )
    # One line each: HAProxy takes 64 words a line. From here on ``src`` is the user, so the order counts.
    return [*(f"  acl from_proxy src {network}" for network in trusted), *(f"  http-request {line}" for line in said)]


def _read_so_far(hop: int) -> str:
    """``from_proxy``, and the address nearer to us was one: behind anything else stands what the user wrote."""
    nearer = f" {{ req.hdr_ip(x-forwarded-for,-{hop - 1}) -m found }}" if hop > 1 else ""
    return f"from_proxy{nearer}"
