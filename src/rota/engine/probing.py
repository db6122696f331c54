"""Probing: one task a replica that is not in rotation yet, and what it has seen; owned by the observer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from rota.core.names import ReplicaId
from rota.core.observation import Address, ObservedReplica, ProbeHistory
from rota.core.spec import AppSpec
from rota.ports.clock import Clock
from rota.ports.prober import Prober

BOOT_INTERVAL = 0.005  # seconds between two tries of a TCP connection at first; a refused one costs 0.6 ms
BOOT_SHARE = 0.05  # of the time it has taken so far: many that boot slowly are not to be slowed down by being asked
MOST_BOOT_INTERVAL = 0.5


class Probing:
    """Watches replicas until they are told to be left alone; ``wake(app)`` is called when one has got further."""

    def __init__(self, prober: Prober, clock: Clock, wake: Callable[[str], None]) -> None:
        self._prober = prober
        self._clock = clock
        self._wake = wake
        self._tasks: dict[ReplicaId, asyncio.Task[None]] = {}
        self._seen: dict[ReplicaId, ProbeHistory] = {}

    def watch(self, app: str, replicas: Mapping[ReplicaId, tuple[ObservedReplica, AppSpec]]) -> None:
        """From now on exactly these replicas of the app are probed."""
        ours = [name for name, seen in self._seen.items() if name.rpartition("-")[0] == app]
        for name in ours:
            wanted = replicas.get(name)
            if wanted is None or wanted[0].run != self._seen[name].run:
                self._drop(name)
        for name, (replica, spec) in replicas.items():
            if name not in self._tasks and replica.address is not None:
                self._seen[name] = ProbeHistory(replica.run, self._clock.now())
                self._tasks[name] = asyncio.create_task(self._watch_one(replica, replica.address, spec))

    def seen(self, replica: ReplicaId) -> ProbeHistory | None:
        return self._seen.get(replica)

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for name in list(self._tasks):
            self._drop(name)
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _drop(self, name: ReplicaId) -> None:
        self._seen.pop(name, None)
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def _watch_one(self, replica: ObservedReplica, address: Address, spec: AppSpec) -> None:
        await self._until_accepted(replica, address, spec)
        while True:
            await self._check(replica, address, spec)
            healthy = self._seen[replica.id].healthy_since is not None
            check = spec.health_check
            risen = self._seen[replica.id].passes >= check.rise
            if risen and self._seen[replica.id].warmed < spec.warm_up.requests:
                await self._warm_up(replica, address, spec)
            await asyncio.sleep(check.interval if healthy and risen else check.start_interval)

    async def _until_accepted(self, replica: ObservedReplica, address: Address, spec: AppSpec) -> None:
        while True:
            result = await self._prober.accepts(replica.id, address, spec.health_check.timeout)
            if result.passed:
                break
            self._note(replica, replace(self._seen[replica.id], last_failure=result.failure))
            taken = self._clock.now() - self._seen[replica.id].since if replica.id in self._seen else 0.0
            await asyncio.sleep(min(max(BOOT_INTERVAL, BOOT_SHARE * taken), MOST_BOOT_INTERVAL))
        self._note(replica, replace(self._seen[replica.id], accepted_at=self._clock.now(), last_failure=""))
        self._wake(replica.app)

    async def _check(self, replica: ObservedReplica, address: Address, spec: AppSpec) -> None:
        check = spec.health_check
        result = await self._prober.healthy(address, spec.check_path, spec.hosts[0], check.timeout)
        before = self._seen[replica.id]
        if result.passed:
            since = before.healthy_since if before.healthy_since is not None else self._clock.now()
            after = replace(before, passes=before.passes + 1, healthy_since=since)
        else:
            after = replace(before, passes=0, healthy_since=None, last_failure=result.failure)
        self._note(replica, after)
        if (after.passes >= check.rise) != (before.passes >= check.rise):
            self._wake(replica.app)

    async def _warm_up(self, replica: ObservedReplica, address: Address, spec: AppSpec) -> None:
        """One after the other, whatever the answers: the first ones are to be slow here and not at a user's."""
        for _ in range(spec.warm_up.requests):
            await self._prober.healthy(address, spec.warm_up_path, spec.hosts[0], spec.boot_timeout)
            before = self._seen[replica.id]
            self._note(replica, replace(before, warmed=before.warmed + 1))
        self._wake(replica.app)

    def _note(self, replica: ObservedReplica, history: ProbeHistory) -> None:
        if replica.id in self._seen:
            self._seen[replica.id] = history
