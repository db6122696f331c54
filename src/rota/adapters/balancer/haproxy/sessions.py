"""What is open in a process of HAProxy, request by request: ``show sess`` as values; read by oldworkers.py and
connections.py. Field names are those of HAProxy's management guide, section 9.3."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from rota.adapters.balancer.haproxy.succession import NEXT

_OWN = "GLOBAL"  # the frontend of HAProxy's own command line
_AGE = re.compile(r"(\d+)([dhms])")
_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_PART = re.compile(r"\s+(frontend|backend|server|txn|task|csb|scb)=(\S*)(.*)")
_ESTABLISHED = " state=EST"
_STATUS = re.compile(r" status=(-?\d+)")


@dataclass(frozen=True)
class Session:
    """One request or connection under way. ``backend`` is None while that is not chosen yet. ``status`` is that of the
    answer once one has begun, 0 before; ``http`` False for a plain TCP connection, ``through`` whether that has reached
    its server. ``age`` in seconds."""

    id: str
    backend: str | None
    server: str
    age: int = 0
    status: int = 0
    http: bool = False
    through: bool = False

    @property
    def settled(self) -> bool:
        """It stays with its server whatever happens."""
        return bool(self.status) or (self.through and not self.http)

    @property
    def passed(self) -> bool:
        """It goes through the successor, which has it as its own."""
        return self.backend == NEXT


def listed(text: str) -> list[Session]:
    """``show sess``: the users' sessions, not rota's own, without what is answered."""
    found = []
    for line in text.splitlines():
        name, _, rest = line.partition(": ")
        words = dict(word.split("=", 1) for word in rest.split() if "=" in word)
        if name.startswith("0x") and words.get("fe", _OWN) != _OWN:
            backend = _chosen(words.get("be", ""), words["fe"])
            found.append(Session(name, backend, words.get("srv", ""), _seconds(words.get("age", ""))))
    return found


def in_full(text: str) -> list[Session]:
    """``show sess all``: the same with what is answered, at 1.4 kB a session."""
    return [session for block in _blocks(text) if (session := _in_full(block)) is not None]


def _blocks(text: str) -> Iterable[list[str]]:
    block: list[str] = []
    for line in text.splitlines():
        if line.startswith("0x") and block:
            yield block
            block = []
        block.append(line)
    if block:
        yield block


def _in_full(block: list[str]) -> Session | None:
    frontend, session = _OWN, Session(block[0].partition(":")[0], None, "")
    for part, value, rest in (match.groups() for match in map(_PART.match, block) if match):
        match part:
            case "frontend":
                frontend = value
            case "backend":
                session = replace(session, backend=_chosen(value, frontend))
            case "server":
                session = replace(session, server=value)
            case "task":
                session = replace(session, age=_seconds(rest.partition("age=")[2]))
            case "csb" | "scb":
                session = replace(session, through=_ESTABLISHED in rest)
            case "txn" if status := _STATUS.search(rest):
                session = replace(session, http=True, status=max(0, int(status[1])))
    return None if frontend == _OWN else session


def _chosen(backend: str, frontend: str) -> str | None:
    return None if backend == frontend or not backend or backend.startswith("<") else backend


def _seconds(age: str) -> int:
    """``1m20s`` as seconds."""
    return sum(int(number) * _SECONDS[unit] for number, unit in _AGE.findall(age))
