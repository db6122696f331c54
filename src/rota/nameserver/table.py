"""The table: the replicas in rotation, as a file and as names with their records; read by control, asked by answers.

The file is JSON: ``{"version": N, "ttl": seconds, "replicas": [{"app", "replica", "slot", "release", "host",
"port"}, …]}``. The daemon writes it; ``version`` counts its changes and is the zone's serial."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from pathlib import Path

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
from dns.name import Name
from dns.rdata import Rdata
from dns.rdatatype import RdataType

ZONE = dns.name.from_text("rota.internal.")
LONGEST_TTL = 5  # seconds: what is told here is gone from every cache after so long
_SRV_WEIGHT = "0 1"

Records = Mapping[RdataType, tuple[Rdata, ...]]


class Unreadable(Exception):
    """There is no table, or not one; the text says which and where."""


class Table:
    """``records`` of a name: an empty mapping for one that only leads to others, None for one that is not there."""

    def __init__(self, version: int, ttl: int, names: Mapping[Name, dict[RdataType, list[Rdata]]]) -> None:
        self.version = version
        self.ttl = ttl
        self._names = {name: {kind: tuple(all_) for kind, all_ in kinds.items()} for name, kinds in names.items()}

    @classmethod
    def read(cls, path: Path) -> Table:
        """Raises Unreadable."""
        try:
            return cls.parse(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, dns.exception.DNSException) as error:
            raise Unreadable(f"{path} holds no table: {error}") from error

    @classmethod
    def parse(cls, text: bytes) -> Table:
        read = json.loads(text)
        version, ttl = int(read["version"]), min(LONGEST_TTL, max(1, int(read["ttl"])))
        names: dict[Name, dict[RdataType, list[Rdata]]] = {}
        _add(names, ZONE, "SOA", f"{ZONE} hostmaster.{ZONE} {version % 2**32} 60 10 3600 {ttl}")
        _add(names, ZONE, "NS", str(ZONE))
        for entry in read["replicas"]:
            _add_replica(names, entry)
        return cls(version, ttl, names)

    @property
    def soa(self) -> Rdata:
        return self._names[ZONE][dns.rdatatype.SOA][0]

    def records(self, name: Name) -> Records | None:
        return self._names.get(name)


def _add_replica(names: dict[Name, dict[RdataType, list[Rdata]]], entry: Mapping[str, object]) -> None:
    app = dns.name.from_text(str(entry["app"]), ZONE)
    own = dns.name.from_text(str(entry["replica"]), app)
    slot = dns.name.from_text(str(entry["slot"]), app)
    address = ipaddress.ip_address(str(entry["host"]))
    release, port = int(str(entry["release"])), int(str(entry["port"]))
    for name in (app, own, slot):
        _add(names, name, "A" if address.version == 4 else "AAAA", str(address))
        _add(names, name, "TXT", f'"release={release}"')
    service = dns.name.from_text("_http._tcp", app)
    names.setdefault(service.parent(), {})
    _add(names, service, "SRV", f"{_SRV_WEIGHT} {port} {own}")


def _add(names: dict[Name, dict[RdataType, list[Rdata]]], name: Name, kind: str, text: str) -> None:
    of_kind = dns.rdatatype.from_text(kind)
    made = dns.rdata.from_text(dns.rdataclass.IN, of_kind, text)
    kept = names.setdefault(name, {}).setdefault(of_kind, [])
    if made not in kept:  # replicas on one address, or of one release, share a record
        kept.append(made)
