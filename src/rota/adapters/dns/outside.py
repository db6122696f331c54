"""A zone outside, kept by RFC 2136 updates (zone) or a provider's API (hosted); fulfils the Dns port. Made by the
composition root, one a zone.

What the zone has of an app is read in the background: when the app comes up, after each change, and every 30 s, so that
what somebody else changed is seen (and repaired by the engine). Nothing is touched that no claim names."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rota.adapters.dns.caches import LONGEST_TTL, Caches
from rota.adapters.dns.claims import Claim, HostState
from rota.adapters.dns.settings import HostedSettings, ZoneSettings
from rota.adapters.dns.zone import Changed, Zone
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address, DnsEntry, ObservedDns, Published

LOOK_AGAIN = 30.0  # seconds: as often as everything else is observed in full
FIRST_RETRY = 1.0  # seconds before a server that failed is asked again; doubles up to LOOK_AGAIN
_UNREAD = "it has not been read yet"
_TRIES = 3  # at an update that met somebody else's

States = Mapping[str, HostState]
Wanted = Mapping[str, Claim]

log = logging.getLogger(__name__)


@dataclass
class _App:
    """What was read last of one app; ``due`` is when it is read again and ``asked`` when the engine last asked, in the
    loop's time."""

    hosts: frozenset[str]
    caches: Caches
    published: Mapping[ReplicaId, Published] = field(default_factory=dict)
    ttl: float = 0.0
    trouble: str = _UNREAD
    failures: int = 0
    due: float = 0.0
    asked: float = field(default_factory=lambda: asyncio.get_running_loop().time())
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def saw(self, states: States) -> None:
        """Caches may have what was there; claims may be of replicas that are gone."""
        for host, state in states.items():
            ttls = [state.ttls[record] for claim in state.claims for record in claim.records if record in state.ttls]
            for ttl in ttls:
                self.caches.saw(ttl)
            if max(ttls, default=0.0) > LONGEST_TTL:
                log.warning("%s has a TTL of %g s: rota waits for %g s of them", host, max(ttls), LONGEST_TTL)


class Changes(Protocol):
    """Changes of some names: ``send`` makes them if the names are still as expected, else it raises Changed."""

    def expect(self, host: str, state: HostState) -> None: ...

    def claim(self, host: str, claim: Claim) -> None: ...

    def add(self, host: str, record: str) -> None: ...

    def give_up(self, host: str, claims: Iterable[Claim], records: Iterable[str]) -> None: ...

    async def send(self) -> None: ...


class Server(Protocol):
    """Whoever has the zone. Calls raise StepFailed."""

    def has(self, host: str) -> bool: ...

    def holds(self, ttl: float | None) -> bool: ...

    async def state(self, host: str, owner: str) -> HostState: ...

    def update(self) -> Changes: ...


class ZoneDns:
    """``owner`` names this server in its claims, for ever. ``memory`` is a directory for what a daemon that starts soon
    has to know. Open between ``open`` and ``close``."""

    def __init__(
        self,
        settings: ZoneSettings | HostedSettings,
        owner: str,
        look_again: float = LOOK_AGAIN,
        server: Server | None = None,
        memory: Path | None = None,
    ) -> None:
        self._memory = memory
        self.name = settings.zone
        self._settings = settings
        self._owner = owner
        self._look_again = look_again
        self._zone = server or server_of(settings)
        self._apps: dict[str, _App] = {}
        self._wakes: list[Callable[[str], None]] = []
        self._new = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        self._task = asyncio.create_task(self._keep_reading())

    async def close(self) -> None:
        """The task is told as well as cancelled: ``asyncio.wait_for``, which dnspython uses, may swallow a cancellation
        in Python 3.11."""
        self._closing = True
        self._new.set()
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def observe(self, app: str, hosts: frozenset[str]) -> ObservedDns | None:
        ours = frozenset(host for host in hosts if self._zone.has(host))
        known = self._apps.get(app)
        if known is None and not ours:
            return None
        if known is None:
            known = self._apps[app] = self._new_app(app, frozenset())
        if not ours <= known.hosts:
            known.hosts, known.trouble, known.due = known.hosts | ours, _UNREAD, 0.0
            self._new.set()
        known.asked = asyncio.get_running_loop().time()
        if not ours and not known.published:
            return None
        ttl = max(known.ttl, known.caches.longest, self._settings.ttl) + self._settings.propagation
        required = self._settings.failure == "block"
        shared = bool(self._settings.addresses)
        return ObservedDns(dict(known.published), ours, ttl, required, known.trouble, shared)

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def publish(self, app: str, entry: DnsEntry) -> None:
        claim = Claim(self._owner, app, entry.replica, entry.address, self._records(entry.address))
        hosts = [host for host in entry.hosts if self._zone.has(host)]
        await self._have(app, entry.replica, dict.fromkeys(hosts, claim))

    async def withdraw(self, app: str, replica: ReplicaId) -> None:
        await self._have(app, replica, {})

    def _new_app(self, app: str, hosts: frozenset[str]) -> _App:
        file = self._memory / f"{self.name}.{app}.json" if self._memory is not None else None
        return _App(hosts, Caches(file, self._settings.ttl))

    async def _have(self, app: str, replica: ReplicaId, wanted: Wanted) -> None:
        """The replica has these claims and no others when it returns. After a failure the app is read again later."""
        known = self._apps.get(app) or self._apps.setdefault(app, self._new_app(app, frozenset(wanted)))
        async with known.lock:
            if self._settings.dry_run:
                self._pretend(known, replica, wanted)
                return
            try:
                self._show(known, app, await self._changed(known, known.hosts | set(wanted), replica, wanted))
            except StepFailed as error:
                self._failed(known, str(error))
                raise
            known.failures = 0

    async def _changed(self, known: _App, hosts: frozenset[str], replica: ReplicaId, wanted: Wanted) -> States:
        for _ in range(_TRIES):
            states = await self._states(hosts)
            update = self._zone.update()
            changes = [self._put(update, host, state, replica, wanted.get(host)) for host, state in states.items()]
            if not any(changes):
                return states
            try:
                await update.send()
            except Changed:
                continue
            finally:
                known.saw(states)  # answers had these TTLs until now
            after = await self._states(hosts)
            for host, claim in wanted.items():
                if not self._is_whole(after[host], claim):
                    raise StepFailed(f"{self.name}: the server took the update, and shows {host} otherwise")
            return after
        raise StepFailed(f"{self.name}: somebody else changes the same names all the time")

    def _put(self, update: Changes, host: str, state: HostState, replica: ReplicaId, claim: Claim | None) -> bool:
        """Adds what is to be done about one name; returns whether there is anything. Raises StepFailed for a name that
        is not ours."""
        before = [one for one in state.claims if one.replica == replica]
        if before == [claim] * bool(claim) and (claim is None or self._is_whole(state, claim)):
            return False
        if claim is not None:
            _refuse_taken(host, state, claim)
        update.expect(host, state)
        if claim is None:
            update.give_up(host, before, state.made(replica))
            return True
        # All of ours are made again: one record's TTL is that of its whole set, which keeps what it had.
        update.give_up(host, before, state.ours)
        for record in {one for other in state.without(replica) for one in other.records} - set(claim.records):
            update.add(host, record)
        update.claim(host, claim)
        return True

    async def _states(self, hosts: frozenset[str]) -> States:
        return {host: await self._zone.state(host, self._owner) for host in sorted(hosts)}

    def _records(self, address: Address) -> tuple[str, ...]:
        return self._settings.addresses or (address.host,)

    def _is_whole(self, state: HostState, claim: Claim) -> bool:
        right = set(claim.records) == set(self._records(claim.address))
        return right and all(self._zone.holds(state.ttls.get(record)) for record in claim.records)

    # What is seen

    async def _keep_reading(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._closing:
            self._new.clear()
            forgotten = loop.time() - 4 * LOOK_AGAIN  # the engine asks for every app it has at least that often
            self._apps = {app: known for app, known in self._apps.items() if known.asked > forgotten}
            for app in [app for app, known in self._apps.items() if known.due <= loop.time()]:
                await self._read(app, self._apps[app])
            for app, known in self._apps.items():
                if known.caches.forget():
                    self._wake(app)
            moments = [min(known.due, known.caches.changes_at) for known in self._apps.values()]
            due = min(moments, default=loop.time() + self._look_again)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._new.wait()

    async def _read(self, app: str, known: _App) -> None:
        before = known.published, known.trouble
        async with known.lock:
            try:
                if self._settings.dry_run:
                    known.trouble, known.due = "", asyncio.get_running_loop().time() + self._look_again
                else:
                    self._show(known, app, await self._states(known.hosts))
            except StepFailed as error:
                self._failed(known, str(error))
            except Exception as error:  # whatever a server answers must not end the repair of what others change
                log.exception("%s: what it has of %s cannot be read", self.name, app)
                self._failed(known, f"{self.name} gave an answer that cannot be read ({type(error).__name__})")
        if (known.published, known.trouble) != before:
            self._wake(app)

    def _wake(self, app: str) -> None:
        for wake in self._wakes:
            wake(app)

    def _show(self, known: _App, app: str, states: States) -> None:
        found: dict[ReplicaId, Published] = {}
        ttls = [self._settings.ttl]
        for host, state in states.items():
            for claim in state.claims:
                if claim.app == app:
                    hosts = found.get(claim.replica, Published(claim.address)).hosts
                    whole = {host} if self._is_whole(state, claim) else set()
                    found[claim.replica] = Published(claim.address, hosts | whole)
                    ttls += [state.ttls[record] for record in claim.records if record in state.ttls]
        known.saw(states)
        known.published, known.ttl, known.trouble = found, min(max(ttls), LONGEST_TTL), ""
        known.due = asyncio.get_running_loop().time() + self._look_again

    def _failed(self, known: _App, trouble: str) -> None:
        """Nothing is asked of the server for a while, longer each time."""
        wait = min(self._look_again, FIRST_RETRY * 2**known.failures)
        known.failures += 1
        known.trouble = trouble
        known.due = asyncio.get_running_loop().time() + wait
        self._new.set()

    def _pretend(self, known: _App, replica: ReplicaId, wanted: Wanted) -> None:
        for host, claim in wanted.items():
            log.info("dry run: %s would lead to %s for %s", host, ", ".join(claim.records), replica)
        if not wanted:
            log.info("dry run: nothing would be left in %s for %s", self.name, replica)
        shown = {name: seen for name, seen in known.published.items() if name != replica}
        for claim in wanted.values():
            shown[replica] = Published(claim.address, frozenset(wanted))
        known.published = shown


def server_of(settings: ZoneSettings | HostedSettings) -> Server:
    """Raises Missing when what it needs is not here."""
    if isinstance(settings, ZoneSettings):
        return Zone(settings)
    # An extra, and slow to import.
    from rota.adapters.dns.hosted import HostedZone

    return HostedZone(settings)


def _refuse_taken(host: str, state: HostState, claim: Claim) -> None:
    if state.taken:
        raise StepFailed(f"{host} has records of {state.taken}; take them out, and rota makes its own")
    if foreign := state.foreign(claim.records):
        raise StepFailed(f"somebody else has made the record {host} {foreign[0]}; take it out, and rota makes its own")
