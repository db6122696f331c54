"""A zone's primary server as rota speaks to it: questions and RFC 2136 updates, both with TSIG; used by rfc2136."""

from __future__ import annotations

from collections.abc import Iterable

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.tsigkeyring
import dns.update
from dns.message import Message
from dns.name import Name
from dns.rdata import Rdata
from dns.update import UpdateMessage

from rota.adapters.dns.claims import LABEL, Claim, HostState, claim_of
from rota.adapters.dns.settings import ZoneSettings
from rota.core.errors import StepFailed

PATIENCE = 5.0  # seconds for one question or update
_CHANGED = {dns.rcode.YXDOMAIN, dns.rcode.YXRRSET, dns.rcode.NXRRSET, dns.rcode.NXDOMAIN}


class Changed(Exception):
    """Somebody changed the names since they were read: nothing was done."""


class Zone:
    def __init__(self, settings: ZoneSettings) -> None:
        self.settings = settings
        self._origin = dns.name.from_text(settings.zone)
        self._keyring = dns.tsigkeyring.from_text({settings.key.name: settings.key.secret})
        self._where = "{} ({})".format(settings.zone, ":".join(map(str, settings.address)))

    def has(self, host: str) -> bool:
        return dns.name.from_text(host).is_subdomain(self._origin)

    async def state(self, host: str, owner: str) -> HostState:
        """Raises StepFailed."""
        name = dns.name.from_text(host)
        texts = await self._records(_beside(name), "TXT")
        found: dict[str, float] = {}
        alias = False
        for kind in ("A", "AAAA"):
            for ttl, record in await self._records(name, kind):
                alias = alias or record.rdtype == dns.rdatatype.CNAME
                found[record.to_text()] = ttl
        claims = [claim_of(getattr(record, "strings", ())) for _, record in texts]
        return HostState(
            claims=tuple(claim for claim in claims if claim is not None and claim.owner == owner),
            texts=tuple(sorted(record.to_text() for _, record in texts)),
            ttls=found,
            alias=alias,
            other_owner=any(claim is not None and claim.owner != owner for claim in claims),
        )

    def holds(self, ttl: float | None) -> bool:
        """Whether a record with this TTL, None for one that is not there, is as it is to be."""
        return ttl == self.settings.ttl

    def update(self) -> Update:
        return Update(self)

    def message(self) -> UpdateMessage:
        key = self.settings.key
        name = dns.name.from_text(key.name)
        return UpdateMessage(self._origin, keyring=self._keyring, keyname=name, keyalgorithm=f"{key.algorithm}.")

    async def send(self, message: UpdateMessage) -> None:
        """All of it is done when it returns. Raises Changed, or StepFailed with the reason."""
        answer = await self._ask(message)
        if answer.rcode() in _CHANGED:
            raise Changed
        if answer.rcode() != dns.rcode.NOERROR:
            raise StepFailed(self._refused(answer.rcode()))

    async def _records(self, name: Name, kind: str) -> list[tuple[float, Rdata]]:
        query = dns.message.make_query(name, kind, flags=0)
        query.use_tsig(self._keyring, self.settings.key.name, algorithm=f"{self.settings.key.algorithm}.")
        answer = await self._ask(query)
        if answer.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise StepFailed(self._refused(answer.rcode()))
        if not answer.flags & dns.flags.AA:
            raise StepFailed(f"{self._where} is not that server's zone: its answers are not authoritative")
        return [(rrset.ttl, record) for rrset in answer.answer if rrset.name == name for record in rrset]

    async def _ask(self, message: Message) -> Message:
        host, port = self.settings.address
        try:
            return await dns.asyncquery.tcp(message, host, timeout=PATIENCE, port=port)
        except dns.tsig.PeerError as error:
            raise StepFailed(f"{self._where} rejects the key {self.settings.key.name}: {error}") from error
        except dns.exception.Timeout:
            raise StepFailed(f"{self._where} does not answer within {PATIENCE:g} s") from None
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise StepFailed(f"{self._where} cannot be asked: {error or type(error).__name__}") from error

    def _refused(self, rcode: dns.rcode.Rcode) -> str:
        reasons = {
            dns.rcode.NOTAUTH: "the key is not accepted, or the server is not the zone's primary",
            dns.rcode.NOTZONE: "a name is not in the zone",
            dns.rcode.REFUSED: "the server's policy does not let this key change these names, or has no such zone",
        }
        return f"{self._where} refuses ({dns.rcode.to_text(rcode)}): {reasons.get(rcode, 'the server failed')}"


class Update:
    """One update, of which all is done or nothing."""

    def __init__(self, zone: Zone) -> None:
        self._zone = zone
        self._message = zone.message()

    def expect(self, host: str, state: HostState) -> None:
        """It is to be done only if the name's claims are still these; and no claim means no record."""
        name = dns.name.from_text(host)
        for text in state.texts:
            self._message.present(_beside(name), "TXT", text)
        if not state.texts:
            self._message.absent(_beside(name), "TXT")
            for kind in ("A", "AAAA", "CNAME"):
                self._message.absent(name, kind)

    def claim(self, host: str, claim: Claim) -> None:
        ttl, name = int(self._zone.settings.ttl), dns.name.from_text(host)
        self._message.add(_beside(name), ttl, "TXT", claim.text())
        for record in claim.records:
            self.add(host, record)

    def add(self, host: str, record: str) -> None:
        kind = "AAAA" if ":" in record else "A"
        self._message.add(dns.name.from_text(host), int(self._zone.settings.ttl), kind, record)

    def give_up(self, host: str, claims: Iterable[Claim], records: Iterable[str]) -> None:
        name = dns.name.from_text(host)
        for claim in claims:
            self._message.delete(_beside(name), "TXT", claim.text())
        for record in sorted(records):
            self._message.delete(name, "AAAA" if ":" in record else "A", record)

    async def send(self) -> None:
        """Raises Changed, or StepFailed with the reason."""
        await self._zone.send(self._message)


def _beside(name: Name) -> Name:
    return dns.name.Name((LABEL.encode(), *name.labels))
