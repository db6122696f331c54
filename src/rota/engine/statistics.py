"""Statistics: what each replica uses and serves, as the API shows it (V1); asked by the engine's face.

CPU is what is used between two readings. The last reading of a replica is kept for the next question: only the first
one, or one after a pause, waits for a second reading. Each app is a turn of the loop: of ten thousand replicas all
together would hold up everything else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import TypeVar

from rota.core.errors import StepFailed
from rota.core.member import Member
from rota.core.names import ReplicaId
from rota.core.observation import Connections, Counters, Observation, ObservedBalancer, ObservedServer, Open
from rota.core.state import AppState
from rota.engine.views import View, members, moment, situation
from rota.ports.balancer import Balancer
from rota.ports.clock import Clock
from rota.ports.usage import Reading, Usage

LEAST_INTERVAL = 0.25  # seconds between two readings: /proc counts CPU in hundredths of a second
MOST_INTERVAL = 15.0  # seconds; over a longer time the percentage would tell nothing of now

Seen = tuple[AppState, Observation | None]
_One = TypeVar("_One")


class Statistics:
    def __init__(self, usage: Usage, balancer: Balancer, clock: Clock) -> None:
        self._usage = usage
        self._balancer = balancer
        self._clock = clock
        self._last: dict[ReplicaId, Reading] = {}

    async def of(self, apps: Sequence[Seen]) -> list[View]:
        """One view an app, in the order given. Raises StepFailed when runtime or balancer cannot be asked."""
        now = self._clock.now()
        running = {state.name: _running(state, observed, now) async for state, observed in _turn_by_turn(apps)}
        names = [member.id for of_app in running.values() for member in of_app]
        before = await self._before(names)
        after = await self._usage.usage(names)
        self._last.update(after)
        balancers = await self._balancer.observe()
        connections = await self.connections()
        return [
            {
                "app": app,
                "at": moment(self._clock.now()),
                "replicas": _replicas(shown, before, after, balancers.get(app), connections),
                "backends": _backends(balancers.get(app)),
                "old_processes": connections.old_processes,
                "let_go": connections.let_go.get(app, 0),
            }
            async for app, shown in _turn_by_turn(running.items())
        ]

    async def connections(self) -> Connections:
        """What is open now; nothing while HAProxy does not answer."""
        try:
            return await self._balancer.connections()
        except StepFailed:
            return Connections()  # as the servers are missing from the view while HAProxy does not answer

    async def _before(self, names: Sequence[ReplicaId]) -> dict[ReplicaId, Reading]:
        """A reading of each, LEAST_INTERVAL to MOST_INTERVAL old; returns once they are that old."""
        now = self._clock.now()
        self._last = {name: last for name, last in self._last.items() if now - last.at < MOST_INTERVAL}
        self._last.update(await self._usage.usage([name for name in names if name not in self._last]))
        before = {name: self._last[name] for name in names if name in self._last}
        youngest = max((reading.at for reading in before.values()), default=0.0)
        wait = LEAST_INTERVAL - (self._clock.now() - youngest)
        if before and wait > 0:
            await asyncio.sleep(wait)
        return before


def _running(state: AppState, observed: Observation | None, now: float) -> list[Member]:
    return [member for member in members(situation(state, observed, now)) if member.running]


async def _turn_by_turn(all_of_them: Iterable[_One]) -> AsyncIterator[_One]:
    for one in all_of_them:
        yield one
        await asyncio.sleep(0)


def _replicas(
    shown: Sequence[Member],
    before: Mapping[ReplicaId, Reading],
    after: Mapping[ReplicaId, Reading],
    balancer: ObservedBalancer | None,
    connections: Connections,
) -> list[View]:
    served: dict[ReplicaId | None, Counters] = {}
    for row in balancer.rows if balancer else ():
        served[row.replica] = served.get(row.replica, Counters()) + row.counters
    return [
        _replica(
            member,
            (before.get(member.id), after.get(member.id)),
            served.get(member.id, Counters()),
            balancer.servers.get(member.id) if balancer else None,
        )
        | {"connections": asdict(connections.open.get(member.id, Open()))}
        for member in shown
    ]


def _replica(
    member: Member, readings: tuple[Reading | None, Reading | None], served: Counters, server: ObservedServer | None
) -> View:
    last, reading = readings
    assert member.seen is not None  # a running one is seen
    limits = member.seen.limits
    return {
        "id": member.id,
        "slot": member.record.slot,
        "release": member.record.release,
        "phase": member.phase.value,
        "memory": {"used": reading.memory if reading else None, "limit": limits.memory},
        "cpu": {
            "percent": _percent(last, reading),
            "limit_percent": round(limits.cpus * 100, 1) if limits.cpus is not None else None,
            "seconds": round(reading.at - last.at, 3) if last and reading else None,
        },
        "requests": served.requests,
        "tcp": served.connections,
        "app_errors": served.app_errors,
        "open": server.open if server else 0,
    }


def _percent(last: Reading | None, reading: Reading | None) -> float | None:
    """Of one core, over the time between the two. A new run in place begins at 0 again."""
    if last is None or reading is None or reading.at <= last.at:
        return None
    return round(max(0.0, reading.cpu_seconds - last.cpu_seconds) / (reading.at - last.at) * 100, 1)


def _backends(balancer: ObservedBalancer | None) -> list[View]:
    """Every backend of the app with what came to it, with a server or without, summed over HAProxy's processes."""
    if balancer is None:
        return []
    counted: dict[str, Counters] = {}
    for row in balancer.rows:
        if row.replica is None:
            counted[row.name] = counted.get(row.name, Counters()) + row.counters
    return [
        {
            "name": name,
            "requests": total.requests,
            "connections": total.connections,
            "retried": total.retried,
            "redispatched": total.redispatched,
            "failed": total.failed,
            "app_errors": total.app_errors,
            "open": sum(server.open for server in balancer.servers.values() if server.backend == name),
        }
        for name, total in sorted(counted.items())
    ]
