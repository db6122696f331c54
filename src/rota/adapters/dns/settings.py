"""The zones outside that rota keeps records in: a YAML file of the server's, named by ``rota serve --dns-zones``; read
by the composition root."""

from __future__ import annotations

import binascii
import ipaddress
import stat
from base64 import b64decode
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError

from rota.adapters.dns.caches import LONGEST_TTL
from rota.core.errors import UsageError
from rota.core.names import DomainName
from rota.core.quantities import Seconds, between

MOST_BYTES = 2**20


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address") from None


def _server(text: str) -> str:
    host, _, port = text.rpartition(":") if not text.endswith("]") and ":" in text else (text, "", "53")
    _address(host.strip("[]"))
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"{text!r} is not ADDRESS or ADDRESS:PORT")
    return f"{host.strip('[]')} {port}"


def _secret(text: str) -> str:
    try:
        if not b64decode(text, validate=True):
            raise ValueError("the secret is empty")
    except binascii.Error:
        raise ValueError("the secret is not base64; tsig-keygen prints one") from None
    return text


class Key(_Model):
    """A TSIG key (RFC 8945), as ``tsig-keygen`` prints it."""

    name: DomainName
    algorithm: Literal["hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"] = "hmac-sha256"
    secret: Annotated[str, AfterValidator(_secret)] = Field(repr=False)


class _Zone(_Model):
    """What all zones have. ``addresses`` are what an app's hosts lead to: those of this node, where users come in; with
    none, each replica's own. ``ttl`` in seconds. ``failure`` says whether a hand-off that removes records waits for a
    server that does not answer (block), or goes on (warn). With ``dry_run`` nothing is sent: the log says what would
    be."""

    zone: DomainName
    ttl: Annotated[Seconds, between(1, LONGEST_TTL), AfterValidator(round)] = 30
    addresses: tuple[Annotated[str, AfterValidator(_address)], ...] = ()
    failure: Literal["block", "warn"] = "block"
    dry_run: bool = False


class ZoneSettings(_Zone):
    """A zone whose primary takes RFC 2136 updates, and shows them at once; ``propagation``: its secondaries later."""

    server: Annotated[str, AfterValidator(_server)]
    key: Key
    propagation: Annotated[Seconds, between(0, LONGEST_TTL)] = 0

    @property
    def address(self) -> tuple[str, int]:
        """The server's address and port."""
        host, _, port = self.server.partition(" ")
        return host, int(port)


class HostedSettings(_Zone):
    """A zone at one of lexicon's providers; ``options`` are that provider's, its credentials above all. ``propagation``
    is how long, in seconds, its name servers take to show what its API was told."""

    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*$")]
    options: dict[str, str] = Field(default_factory=dict, repr=False)
    propagation: Annotated[Seconds, between(0, LONGEST_TTL)] = 60


def _how(given: object) -> str:
    return "hosted" if isinstance(given, HostedSettings) or (isinstance(given, dict) and "provider" in given) else "own"


AnyZone = Annotated[Annotated[ZoneSettings, Tag("own")] | Annotated[HostedSettings, Tag("hosted")], Discriminator(_how)]


class _File(_Model):
    zones: tuple[AnyZone, ...] = Field(min_length=1, max_length=100)


def read_zones(path: Path) -> tuple[ZoneSettings | HostedSettings, ...]:
    """Raises UsageError naming the file, the place in it and the reason; a file with secrets that others may read is
    refused."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise UsageError(f"{path} holds a secret and others may read it; do: chmod 600 {path}")
        if path.stat().st_size > MOST_BYTES:
            raise UsageError(f"{path} is over 1 MiB")
        zones = _File.model_validate(_parsed(path)).zones
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError("\n".join(_in_words(path, found) for found in error.errors())) from None
    _refuse_overlap(path, zones)
    return zones


def _parsed(path: Path) -> object:
    """yaml breaks at a date that is none, and at what is nested too deep, with errors that are not its own."""
    try:
        return yaml.safe_load(path.read_bytes())
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML: {error}") from error


def _in_words(path: Path, found: object) -> str:
    assert isinstance(found, dict)  # noqa: S101 - pydantic's
    place = ".".join(str(part) for part in found["loc"] if part not in ("own", "hosted"))
    return f"{path}: {place or 'the file'}: {found['msg'].removeprefix('Value error, ')}"


def _refuse_overlap(path: Path, zones: tuple[ZoneSettings | HostedSettings, ...]) -> None:
    """Two that could both have a name would both answer for it."""
    names = sorted((entry.zone for entry in zones), key=len)
    for index, name in enumerate(names):
        within = [other for other in names[:index] if f".{name}".endswith(f".{other}")]
        if within:
            raise UsageError(f"{path}: {name} lies in {within[0]}, which is given too; leave out one of the two")
