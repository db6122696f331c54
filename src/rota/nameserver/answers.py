"""Answers: a question's bytes to its answer's bytes, from the table; asked by the front for every packet.

Reading and writing a message with dnspython takes most of the time, so an answer is kept by the bytes of its question
and given again under the new id until the table changes."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.message import Message, QueryMessage
from dns.name import Name
from dns.rdata import Rdata
from dns.rdatatype import RdataType

from .table import ZONE, Records, Table

HEADER = 12  # bytes
LONGEST_UDP = 1232  # bytes: what passes every common path in one piece (DNS flag day 2020)
PLAIN_UDP = 512  # bytes, without EDNS (RFC 1035)
LONGEST_KEPT = 300  # bytes of a question whose answer is kept
MOST_KEPT = 4096  # questions
MOST_TURNS = 16  # rotations kept of one answer

_RESPONSE, _RECURSION_DESIRED, _OPCODE = 0x80, 0x01, 0x78
_ANY = dns.rdatatype.ANY


class Elsewhere(enum.Enum):
    """The question is about a name that is not rota's."""

    ASKED = "asked"


class _Kept:
    """The answers to one question, each with its records in another order; given in turns."""

    def __init__(self, turns: int) -> None:
        self.turns = turns
        self.bodies: list[bytes] = []
        self.given = 0

    def next(self) -> bytes | None:
        """None while the next order has not been written yet."""
        if len(self.bodies) < self.turns:
            return None
        self.given = (self.given + 1) % self.turns
        return self.bodies[self.given]


class Answers:
    def __init__(self, table: Table | None = None) -> None:
        self._table = table
        self._kept: dict[tuple[bytes, bool], _Kept] = {}

    @property
    def version(self) -> int:
        """Of the table; -1 while there is none: then the zone's names are answered by SERVFAIL."""
        return self._table.version if self._table is not None else -1

    def use(self, table: Table) -> None:
        self._table = table
        self._kept.clear()

    def answer(self, wire: bytes, *, udp: bool) -> bytes | Elsewhere | None:
        """The answer; None for what gets none: less than a header, or itself an answer."""
        if len(wire) < HEADER or wire[2] & _RESPONSE:
            return None
        kept = self._kept.get((wire[2:], udp))
        if kept is not None:
            body = kept.next()
            if body is not None:
                return wire[:2] + body
        return self._anew(wire, udp)

    def refusal(self, wire: bytes) -> bytes:
        """The answer to a client that may not ask for names that are not rota's."""
        return _bare(wire, dns.rcode.REFUSED)

    def failure(self, wire: bytes) -> bytes:
        return _bare(wire, dns.rcode.SERVFAIL)

    def _anew(self, wire: bytes, udp: bool) -> bytes | Elsewhere:
        if wire[2] & _OPCODE:
            return _bare(wire, dns.rcode.NOTIMP)
        try:
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError):
            return _bare(wire, dns.rcode.FORMERR)
        if len(query.question) != 1 or not isinstance(query, QueryMessage):
            return _bare(wire, dns.rcode.FORMERR)
        question = query.question[0]
        if question.rdclass != dns.rdataclass.IN:
            return _bare(wire, dns.rcode.REFUSED)
        if not question.name.is_subdomain(ZONE):
            return Elsewhere.ASKED
        return self._ours(wire, query, question.name, question.rdtype, udp)

    def _ours(self, wire: bytes, query: QueryMessage, name: Name, kind: RdataType, udp: bool) -> bytes:
        reply = dns.message.make_response(query, recursion_available=True, our_payload=LONGEST_UDP)
        reply.flags |= dns.flags.AA
        if query.edns > 0:
            reply.flags &= ~dns.flags.AA
            reply.set_rcode(dns.rcode.BADVERS)
            return _written(reply, query, udp)
        if self._table is None:
            return self.failure(wire)
        records = self._table.records(name)
        turns = max([1, *map(len, (records or {}).values())])
        kept = self._keep(wire, udp, min(turns, MOST_TURNS))
        self._fill(reply, name, kind, records, len(kept.bodies) if kept is not None else 0)
        written = _written(reply, query, udp)
        if kept is not None:
            kept.bodies.append(written[2:])
        return written

    def _keep(self, wire: bytes, udp: bool, turns: int) -> _Kept | None:
        if len(wire) > LONGEST_KEPT:
            return None
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        return self._kept.setdefault((wire[2:], udp), _Kept(turns))

    def _fill(self, reply: Message, name: Name, kind: RdataType, records: Records | None, turn: int) -> None:
        assert self._table is not None  # noqa: S101 - asked by _ours
        ttl = self._table.ttl
        found = {of: all_ for of, all_ in (records or {}).items() if kind in (of, _ANY)}
        for all_ in found.values():
            reply.answer.append(_rrset(name, ttl, _rotated(all_, turn)))
        if not found:
            # NXDOMAIN or no data: the SOA says for how long that may be remembered (RFC 2308).
            reply.authority.append(_rrset(ZONE, ttl, [self._table.soa]))
            if records is None:
                reply.set_rcode(dns.rcode.NXDOMAIN)


def _rrset(name: Name, ttl: int, records: Sequence[Rdata]) -> dns.rrset.RRset:
    return dns.rrset.from_rdata(name, ttl, *records)


def _rotated(records: Sequence[Rdata], turn: int) -> list[Rdata]:
    first = turn % len(records)
    return [*records[first:], *records[:first]]


def _written(reply: Message, query: Message, udp: bool) -> bytes:
    """What does not fit is left out and marked: the client asks again over TCP."""
    longest = max(PLAIN_UDP, min(query.payload, LONGEST_UDP)) if query.edns >= 0 else PLAIN_UDP
    return reply.to_wire(max_size=longest if udp else 65535, prefer_truncation=True, want_shuffle=False)


def _bare(wire: bytes, rcode: dns.rcode.Rcode) -> bytes:
    """A header alone: the question may not even be one."""
    flags = _RESPONSE | (wire[2] & (_OPCODE | _RECURSION_DESIRED))
    return wire[:2] + bytes([flags, rcode]) + bytes(8)
