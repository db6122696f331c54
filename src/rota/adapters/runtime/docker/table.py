"""The table of this server's containers: what the engine last said of each; filled by the watch and after each call of
the runtime, read by observe without asking the engine."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from rota.adapters.clock import SystemClock
from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.endings import Endings
from rota.adapters.runtime.docker.inspection import Capability, Inspection, observed
from rota.adapters.runtime.docker.labels import BrokenLabels, Labels
from rota.adapters.runtime.docker.lastboot import LastBoot
from rota.adapters.runtime.docker.names import SERVER, Names
from rota.adapters.runtime.docker.oddities import Oddities
from rota.adapters.runtime.docker.remnants import Remnants
from rota.adapters.runtime.docker.reruns import Reruns
from rota.core.names import ReplicaId
from rota.core.observation import ObservedReplica, Stranger
from rota.core.spec import Limits

LIST_TIME = 15.0  # seconds that a look may take
_BEFORE_LOST = 1.0  # seconds by which an engine that goes down may end its containers before it is seen to be gone
_REMEMBERED = 1000  # answers for which the order of the last ones is known


@dataclass(frozen=True)
class Entry:
    """One of our containers."""

    seen: Inspection
    labels: Labels
    replica: ObservedReplica


class Table:
    """``wake(app)`` is called at each change, ``gone(replica)`` when a container is no more. ``last_boot`` is None
    where the engine is another machine's."""

    def __init__(
        self,
        client: Client,
        names: Names,
        clock: SystemClock,
        reruns: Reruns,
        wake: Callable[[str], None],
        gone: Callable[[ReplicaId], None],
        last_boot: LastBoot | None = None,
    ) -> None:
        self.capability = Capability()
        self._client = client
        self._names = names
        self._clock = clock
        self._reruns = reruns
        self._wake = wake
        self._gone = gone
        self._last_boot = last_boot
        self._oddities = Oddities(names)
        self._remnants = Remnants(client)
        self._entries: dict[str, Entry] = {}
        self._expected: dict[str, tuple[Limits, ...]] = {}
        self._stops: dict[str, int] = {}
        self._told: dict[str, str] = {}
        self._ended: dict[str, str] = {}
        self._unseen: dict[str, str] = {}
        self._lost_at: float | None = None
        self._endings = Endings(self.ended)
        self._tickets = itertools.count(1)
        self._latest: dict[str, int] = {}

    async def close(self) -> None:
        self._endings.close()
        await self._remnants.close()

    def replicas(self, app: str | None = None) -> dict[ReplicaId, ObservedReplica]:
        """All, or an app's; those that were only created have not begun to be."""
        begun = (entry for entry in self._entries.values() if not entry.seen.created_only)
        return {entry.labels.replica: entry.replica for entry in begun if app is None or entry.labels.app == app}

    def entry(self, replica: ReplicaId) -> Entry | None:
        return next((entry for entry in self._entries.values() if entry.labels.replica == replica), None)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(self._entries.values())

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        return self._oddities.strangers + self._remnants.strangers

    @property
    def created_only(self) -> tuple[str, ...]:
        """What a daemon has left that ended between the two calls of a start."""
        return tuple(container for container, entry in self._entries.items() if entry.seen.created_only)

    def knows(self, container: str) -> bool:
        """It is one of ours."""
        return container in self._entries

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._entries)

    def expect(self, container: str, *limits: Limits) -> None:
        """These are rota's own doing, the last of them what it wants; all others are somebody else's."""
        self._expected[container] = limits

    def told(self, container: str) -> None:
        """Its present run was sent its stop signal by this process."""
        entry = self._entries.get(container)
        if entry is not None:
            self._told[container] = entry.seen.run
            self._take(entry.seen)

    def signalled(self, container: str, at: int) -> None:
        """An event says that its stop signal was sent, ``at`` microseconds of the engine's clock."""
        self._stops[container] = max(at, self._stops.get(container, 0))

    def ended(self, container: str, run: str) -> None:
        """The kernel says that this run is over. An answer of the engine that still says otherwise is late."""
        entry = self._entries.get(container)
        if entry is not None and entry.seen.run == run:
            self._ended[container] = run
            self._take(entry.seen)

    def engine_lost(self) -> None:
        """Until it is back nobody sees how containers end."""
        self._lost_at = self._clock.now()

    def engine_back(self) -> None:
        self._lost_at = None

    async def list_all(self) -> None:
        """A full look at all that is ours. One that is known and gives no answer, since it is being started or ended,
        stays as it was. Raises EngineLost, Refused."""
        ticket = next(self._tickets)
        filters = json.dumps({"label": [self._names.filter]})
        listed = await self._client.get("containers/json", {"all": 1, "filters": filters}, timeout=LIST_TIME)
        there = {str(container["Id"]) for container in listed}
        for container in (self._entries.keys() | self._oddities.known | self._remnants.known) - there:
            self.remove(container, ticket)
        looks = {container: asyncio.ensure_future(self.refresh(container)) for container in sorted(there)}
        await asyncio.gather(*looks.values(), return_exceptions=True)
        for container, look in looks.items():
            if container not in self._entries or not isinstance(look.exception(), EngineLost | Refused):
                look.result()
        self._latest = {one: last for one, last in self._latest.items() if one in there or last > ticket - _REMEMBERED}

    async def refresh(self, container: str) -> None:
        """Asks about one container. Raises EngineLost."""
        ticket = next(self._tickets)
        try:
            raw = await self._client.get(f"containers/{container}/json", timeout=LIST_TIME)
        except Refused as refused:
            if refused.http_status != 404:
                raise
            self.remove(container, ticket)
            return
        seen = Inspection(raw)
        if seen.dead:
            self._forget(seen.id, ticket)
            if seen.labels.get(SERVER) == self._names.server_id:
                self._remnants.found(seen)
        elif self._is_news(seen.id, ticket):
            self._take(seen)

    def remove(self, container: str, ticket: int | None = None) -> None:
        """It is no more."""
        self._forget(container, ticket if ticket is not None else next(self._tickets))
        self._remnants.gone(container)

    def _forget(self, container: str, ticket: int) -> None:
        """It is nobody's replica any more."""
        if not self._is_news(container, ticket):
            return
        entry = self._entries.pop(container, None)
        self._oddities.gone(container)
        for facts in (self._expected, self._stops, self._told, self._ended, self._unseen):
            facts.pop(container, None)
        self._endings.forget(container)
        if entry is not None:
            self._gone(entry.labels.replica)
            self._wake(entry.labels.app)

    def _is_news(self, container: str, ticket: int) -> bool:
        """Answers may come in another order than they were asked for; an older one than the last is dropped."""
        if ticket < self._latest.get(container, 0):
            return False
        self._latest[container] = ticket
        return True

    def _take(self, seen: Inspection) -> None:
        labels = self._labels(seen)
        before = self._entries.get(seen.id)
        if labels is None:
            if before is not None and self._entries.pop(seen.id, None) is not None:
                self._gone(before.labels.replica)
                self._wake(before.labels.app)
            return
        expected = self._expected.get(seen.id, (labels.limits,))
        standing = self._reruns.standing(seen.id, seen.started, labels.generation)
        ended = self._ended.get(seen.id) == seen.run
        replica = observed(
            seen,
            labels,
            standing,
            expected[-1],
            self.capability,
            self._clock,
            network=self._names.network,
            told_to_stop=self._was_told(seen, labels),
            ended=ended,
            unwatched=self._ended_unseen(seen) or (self._last_boot is not None and self._last_boot.has_ended(seen)),
        )
        # Limits found at the start may be an earlier daemon's doing, whatever the labels say.
        wanted = self._expected.setdefault(seen.id, (replica.limits,))
        odd = self._oddities.look(seen, labels, replica, wanted, self.capability)
        replica = replace(replica, oddities=odd)
        self._entries[seen.id] = Entry(seen, labels, replica)
        if self._client.is_local and not ended:
            self._endings.watch(seen)
        if before is None or before.replica != replica:
            self._wake(labels.app)

    def _labels(self, seen: Inspection) -> Labels | None:
        """None for what is not ours to touch."""
        if seen.labels.get(SERVER) != self._names.server_id:
            return None
        try:
            labels = Labels.read(seen.raw["Config"])
        except BrokenLabels as broken:
            self._oddities.stranger(seen, str(broken))
            return None
        if not any(self._signs(seen, labels)):
            self._oddities.stranger(seen, f"neither the name nor the address of {labels.replica}")
            return None
        twin = self.entry(labels.replica)
        if twin is not None and twin.seen.id != seen.id:
            if self._is_truer(twin.seen, seen, labels):
                self._oddities.stranger(seen, f"{twin.seen.name} is {labels.replica} already")
                return None
            del self._entries[twin.seen.id]
            self._oddities.stranger(twin.seen, f"{seen.name} is {labels.replica}")
        return labels

    def _signs(self, seen: Inspection, labels: Labels) -> tuple[bool, bool]:
        """What a copy of a container does not have as well: its name and its address. Somebody may have taken one of
        them from one of ours."""
        named = seen.name == self._names.container(labels.replica)
        return named, seen.has_address(self._names.network, labels.address)

    def _is_truer(self, one: Inspection, other: Inspection, labels: Labels) -> bool:
        """Of two that both say to be this replica; a copy is made after what it is a copy of."""
        signs = sum(self._signs(one, labels)), sum(self._signs(other, labels))
        return signs[0] > signs[1] or (
            signs[0] == signs[1] and _microseconds(one.created) <= _microseconds(other.created)
        )

    def _was_told(self, seen: Inspection, labels: Labels) -> bool:
        return self._told.get(seen.id) == seen.run or self._stops.get(seen.id, 0) >= _microseconds(seen.started)

    def _ended_unseen(self, seen: Inspection) -> bool:
        """Whether this run ended while the engine was away: as it went down, it may have ended it itself."""
        exit_ = seen.ended(self._clock)
        if self._lost_at is not None and exit_ is not None and exit_.at >= self._lost_at - _BEFORE_LOST:
            self._unseen[seen.id] = seen.run
        return self._unseen.get(seen.id) == seen.run


def _microseconds(moment: str) -> int:
    return round(datetime.fromisoformat(moment).timestamp() * 1_000_000)
