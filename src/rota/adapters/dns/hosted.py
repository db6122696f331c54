"""A zone at a hosted provider, spoken to by lexicon (the extra ``lexicon``); used by outside in the place of zone.

lexicon blocks, and most of its providers without end: each call is a thread of its own that nobody waits for when rota
ends, one at a time. Providers know no prerequisites: what a change was worked out from is read again just before it."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from rota.adapters.dns.claims import LABEL, Claim, HostState, claim_of
from rota.adapters.dns.settings import HostedSettings
from rota.adapters.dns.zone import Changed
from rota.core.errors import Missing, StepFailed

if TYPE_CHECKING:
    from lexicon.interfaces import Provider

PATIENCE = 60.0  # seconds for one call, which may be several requests
_KINDS = ("A", "AAAA", "CNAME")

Record = tuple[str, str, str]  # type, name, content
T = TypeVar("T")


class HostedZone:
    """Raises Missing when lexicon, or the provider that the settings name, is not there."""

    def __init__(self, settings: HostedSettings) -> None:
        self.settings = settings
        self._make = _provider(settings)
        self._busy = False
        """A call is under way, whether somebody still waits for it or not."""
        self._one_at_a_time = asyncio.Lock()

    def has(self, host: str) -> bool:
        return f".{host}".endswith(f".{self.settings.zone}")

    def holds(self, ttl: float | None) -> bool:
        """Many providers have a shortest TTL of their own: any will do."""
        return ttl is not None

    async def state(self, host: str, owner: str) -> HostState:
        """Raises StepFailed."""
        return await self._call(lambda provider: self._read(provider, host, owner))

    def update(self) -> HostedUpdate:
        return HostedUpdate(self)

    async def change(self, add: list[Record], take_out: list[Record], before: Mapping[str, HostState]) -> None:
        """Unless a name is another than it was before. Raises Changed, or StepFailed: a part may be done then."""

        def act(provider: Provider) -> bool:
            now = {host: self._read(provider, host, "") for host in before}
            if any(_shown(now[host]) != _shown(state) for host, state in before.items()):
                return False
            for record in add:
                provider.create_record(*record)
            for kind, name, content in take_out:
                provider.delete_record(None, kind, name, content)
            return True

        if not await self._call(act):
            raise Changed

    def _read(self, provider: Provider, host: str, owner: str) -> HostState:
        texts = [content for _, content, _ in self._listed(provider, "TXT", _beside(host))]
        found = [record for kind in _KINDS for record in self._listed(provider, kind, host)]
        claims = [claim for claim in map(_claim, texts) if claim is not None]
        return HostState(
            claims=tuple(claim for claim in claims if claim.owner == owner),
            texts=tuple(sorted(texts)),
            ttls={_address(content): ttl for kind, content, ttl in found if kind != "CNAME"},
            alias=any(kind == "CNAME" for kind, _, _ in found),
            other_owner=any(claim.owner != owner for claim in claims),
        )

    def _listed(self, provider: Provider, kind: str, name: str) -> list[tuple[str, str, float]]:
        """Not every provider keeps to the filter that it is given."""
        short = name.removesuffix(f".{self.settings.zone}")
        return [
            (kind, str(record["content"]).strip(), float(record.get("ttl") or self.settings.ttl))
            for record in provider.list_records(kind, name)
            if record["type"] == kind and str(record["name"]).rstrip(".").lower() in (name, short)
        ]

    async def _call(self, work: Callable[[Provider], T]) -> T:
        """Raises StepFailed, with lexicon's reason or the provider's."""
        where = f"{self.settings.zone} ({self.settings.provider})"
        async with self._one_at_a_time:
            if self._busy:
                raise StepFailed(f"{where} has not answered an earlier call yet")
            answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
            self._busy = True
            threading.Thread(target=self._run, args=(work, answer), daemon=True).start()
            try:
                return await asyncio.wait_for(answer, PATIENCE)
            except TimeoutError:
                raise StepFailed(f"{where} does not answer within {PATIENCE:g} s") from None
            except Exception as error:  # each of a hundred providers raises what it likes
                raise StepFailed(f"{where} cannot be used: {error or type(error).__name__}") from error

    def _run(self, work: Callable[[Provider], T], answer: asyncio.Future[T]) -> None:
        try:
            provider = self._make()
            provider.authenticate()
            try:
                told = work(provider)
            finally:
                provider.cleanup()
        except Exception as error:  # noqa: BLE001 - _call raises it
            self._busy = False
            _tell(answer, answer.set_exception, error)
        else:
            self._busy = False
            _tell(answer, answer.set_result, told)


class HostedUpdate:
    """Collects what is to be done about some names, and does what is different. What is added comes first, a claim
    before its records, and goes last: no name is empty meanwhile, and no record without a claim."""

    def __init__(self, zone: HostedZone) -> None:
        self._zone = zone
        self._before: dict[str, HostState] = {}
        self._add: list[Record] = []
        self._take_out: list[Record] = []

    def expect(self, host: str, state: HostState) -> None:
        self._before[host] = state

    def claim(self, host: str, claim: Claim) -> None:
        self._add.append(("TXT", _beside(host), _written(claim)))
        for record in claim.records:
            self.add(host, record)

    def add(self, host: str, record: str) -> None:
        self._add.append((_kind(record), host, record))

    def give_up(self, host: str, claims: Iterable[Claim], records: Iterable[str]) -> None:
        self._take_out += [(_kind(record), host, record) for record in sorted(records)]
        self._take_out += [("TXT", _beside(host), _written(claim)) for claim in claims]

    async def send(self) -> None:
        """Raises Changed, or StepFailed with the reason."""
        there = {(_kind(record), host, record) for host, state in self._before.items() for record in state.ttls}
        there |= {
            ("TXT", _beside(host), _written(claim)) for host, state in self._before.items() for claim in state.claims
        }
        add = [record for record in dict.fromkeys(self._add) if record not in there]
        take_out = [record for record in dict.fromkeys(self._take_out) if record not in self._add]
        await self._zone.change(add, take_out, self._before)


def _provider(settings: HostedSettings) -> Callable[[], Provider]:
    # Not lexicon's Client: that guesses which zone is meant from a list that it fetches, and rota knows.
    try:
        from lexicon.config import ConfigResolver
    except ImportError:
        raise Missing(f"zone {settings.zone} needs lexicon, which is not here: pip install 'rota[lexicon]'") from None
    try:
        module = importlib.import_module(f"lexicon._private.providers.{settings.provider}")
    except ImportError as error:
        raise Missing(f"zone {settings.zone}: lexicon has no provider {settings.provider!r} ({error})") from error
    name = settings.provider
    given = {"provider_name": name, "domain": settings.zone, "ttl": int(settings.ttl), name: dict(settings.options)}

    def make() -> Provider:
        made: Provider = module.Provider(ConfigResolver().with_dict(given))  # type: ignore[no-untyped-call]
        return made

    return make


def _tell(answer: asyncio.Future[T], tell: Callable[[Any], None], what: object) -> None:
    """From the thread; nobody waits any more for what came too late, or after the end."""

    def tell_in_time() -> None:
        if not answer.done():
            tell(what)

    with suppress(RuntimeError):  # the loop has been closed
        answer.get_loop().call_soon_threadsafe(tell_in_time)


def _shown(state: HostState) -> tuple[object, ...]:
    return state.texts, frozenset(state.ttls), state.alias


def _claim(content: str) -> Claim | None:
    """As one string: providers differ in what they make of several. Some hand it back in quotes, or in pieces."""
    whole = content.replace('" "', "").strip('"')
    return claim_of(word.encode() for word in whole.split())


def _written(claim: Claim) -> str:
    return claim.text().replace('"', "")


def _beside(host: str) -> str:
    return f"{LABEL}.{host}"


def _kind(record: str) -> str:
    return "AAAA" if ":" in record else "A"


def _address(text: str) -> str:
    """As rota writes it; IPv6 comes in many ways."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
