"""Claims: the TXT records by which rota knows the records that it made, at ``_rota.NAME`` beside the name they are
about; read and written by zone and hosted.

A claim is one TXT record a replica and name: ``rota1 owner=… app=… replica=… address=… records=A,B``. What no claim
of this server's names is somebody else's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rota.core.names import ReplicaId
from rota.core.observation import Address

LABEL = "_rota"
_FORM = "rota1"


@dataclass(frozen=True)
class Claim:
    """``records`` are the addresses that the name has because of this replica."""

    owner: str
    app: str
    replica: ReplicaId
    address: Address
    records: tuple[str, ...]

    def text(self) -> str:
        """One character string for each field, each well under 255 bytes, as a zone file has them."""
        fields = (
            _FORM,
            f"owner={self.owner}",
            f"app={self.app}",
            f"replica={self.replica}",
            f"address={self.address}",
            *(f"record={record}" for record in self.records),
        )
        return " ".join(f'"{field}"' for field in fields)


def claim_of(strings: Iterable[bytes]) -> Claim | None:
    """The claim that a TXT record's strings are; None for any other TXT record."""
    form, *fields = [string.decode("ascii", "replace") for string in strings] or [""]
    pairs = [field.partition("=")[::2] for field in fields]
    found = dict(pairs)
    host, _, port = found.get("address", "").rpartition(":")
    if form != _FORM or not {"owner", "app", "replica"} <= set(found) or not (port.isascii() and port.isdigit()):
        return None
    records = tuple(value for name, value in pairs if name == "record")
    return Claim(found["owner"], found["app"], ReplicaId(found["replica"]), Address(host, int(port)), records)


@dataclass(frozen=True)
class HostState:
    """What a zone has of one name. ``claims`` are this server's; ``texts`` all TXT records beside the name, as they
    are written. ``taken`` says who else it belongs to, empty when nobody; ``ttls`` has its addresses."""

    claims: tuple[Claim, ...] = ()
    texts: tuple[str, ...] = ()
    ttls: dict[str, float] = field(default_factory=dict)
    alias: bool = False
    other_owner: bool = False

    @property
    def taken(self) -> str:
        if self.other_owner:
            return "another rota server"
        if not self.claims and (self.ttls or self.alias):
            return "somebody else"
        return ""

    @property
    def ours(self) -> set[str]:
        return {record for claim in self.claims for record in claim.records}

    def without(self, replica: ReplicaId) -> tuple[Claim, ...]:
        return tuple(claim for claim in self.claims if claim.replica != replica)

    def made(self, replica: ReplicaId) -> set[str]:
        """The addresses that are there for this replica alone."""
        shared = {record for claim in self.without(replica) for record in claim.records}
        return {record for claim in self.claims if claim.replica == replica for record in claim.records} - shared

    def foreign(self, addresses: Iterable[str]) -> list[str]:
        """Those of the addresses that the name has already and that no claim explains."""
        return [address for address in addresses if address in self.ttls and address not in self.ours]
