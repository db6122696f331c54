"""Probing: one task a replica that the daemon asks, and what it has seen; owned by the observer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from functools import partial

from rota.core.errors import StepFailed
from rota.core.healthcheck import Check, Kind
from rota.core.names import ReplicaId
from rota.core.observation import Address, ObservedReplica, ProbeHistory
from rota.core.spec import AppSpec
from rota.core.tcp import targets
from rota.engine.loops import keep
from rota.ports.clock import Clock
from rota.ports.prober import Prober
from rota.ports.usage import Usage

BOOT_INTERVAL = 0.005  # seconds between two tries of a TCP connection at first; a refused one costs 0.6 ms
BOOT_SHARE = 0.05  # of the time it has taken so far: many that boot slowly are not to be slowed down by being asked
MOST_BOOT_INTERVAL = 0.5


@dataclass(frozen=True)
class Probed:
    """A replica to ask. ``served``: it has been in rotation, so that nobody waits for it to become ready."""

    replica: ObservedReplica
    spec: AppSpec
    served: bool = False


class Probing:
    """Watches replicas until they are told to be left alone; ``wake(app)`` is called when one has got further."""

    def __init__(self, prober: Prober, usage: Usage, clock: Clock, wake: Callable[[str], None]) -> None:
        self._prober = prober
        self._usage = usage
        self._clock = clock
        self._wake = wake
        self._tasks: dict[ReplicaId, asyncio.Task[None]] = {}
        self._seen: dict[ReplicaId, ProbeHistory] = {}
        self._watched: dict[str, Set[ReplicaId]] = {}

    def watch(self, app: str, replicas: Mapping[ReplicaId, Probed]) -> None:
        """From now on exactly these replicas of the app are probed."""
        for name in self._watched.pop(app, ()):
            wanted, seen = replicas.get(name), self._seen.get(name)
            if wanted is None or seen is None or wanted.replica.run != seen.run:
                self._drop(name)
        if replicas:
            self._watched[app] = replicas.keys()
        for name, probed in replicas.items():
            if name not in self._tasks and probed.replica.address is not None:
                self._seen[name] = ProbeHistory(probed.replica.run, self._clock.now())
                watch_it = partial(self._watch_one, probed, probed.replica.address)
                self._tasks[name] = asyncio.create_task(keep(name, watch_it))

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

    async def _watch_one(self, probed: Probed, address: Address) -> None:
        replica, check = probed.replica, probed.spec.check
        await self._until_accepted(replica, address, check.timeout)
        for named in targets(probed.spec.ports):
            place = Address(address.host, replica.port_of(named))
            await self._until_accepted(replica, place, check.timeout, f"PORT_{named}")
        self._note(replica, replace(self._seen[replica.id], accepted_at=self._clock.now(), last_failure=""))
        self._wake(replica.app)
        served = probed.served
        while True:
            began = self._clock.now()
            await self._check(replica, address, probed.spec)
            history = self._seen[replica.id]
            if history.passes >= check.rise and history.warmed < probed.spec.warm_up.requests and not probed.served:
                await self._warm_up(replica, address, probed.spec)
            served = served or (check.by_daemon and history.passes >= check.rise)
            await asyncio.sleep(pause(check, history, served, self._clock.now() - began))

    async def _until_accepted(
        self, replica: ObservedReplica, address: Address, timeout: float, variable: str = "PORT"
    ) -> None:
        while True:
            result = await self._prober.accepts(replica.id, address, timeout, variable)
            if result.passed:
                return
            failure = result.failure if variable == "PORT" else f"${variable}: {result.failure}"
            self._note(replica, replace(self._seen[replica.id], last_failure=failure))
            taken = self._clock.now() - self._seen[replica.id].since if replica.id in self._seen else 0.0
            await asyncio.sleep(min(max(BOOT_INTERVAL, BOOT_SHARE * taken), MOST_BOOT_INTERVAL))

    async def _check(self, replica: ObservedReplica, address: Address, spec: AppSpec) -> None:
        check = spec.check
        try:
            result = await self._prober.healthy(replica.id, address, check, spec.check_host)
        except StepFailed as error:  # whoever could not ask has seen nothing, neither good nor bad
            self._note(replica, replace(self._seen[replica.id], last_failure=str(error)))
            return
        before = self._seen[replica.id]
        if result.passed:
            after = replace(before, passes=before.passes + 1, fails=0)
            if before.healthy_since is None:
                after = replace(after, healthy_since=self._clock.now(), waited=await self._usage.waited(replica.id))
        else:
            failed = before.fails + 1
            after = replace(
                before, passes=0, healthy_since=None, waited=None, fails=failed, last_failure=result.failure
            )
        self._note(replica, after)
        if _verdict(check, after) != _verdict(check, before):
            self._wake(replica.app)

    async def _warm_up(self, replica: ObservedReplica, address: Address, spec: AppSpec) -> None:
        """One after the other, whatever the answers: the first ones are to be slow here and not at a user's."""
        request = Check(Kind.HTTP, spec.warm_up_path, timeout=spec.boot_timeout)
        for _ in range(spec.warm_up.requests):
            await self._prober.healthy(replica.id, address, request, spec.check_host)
            before = self._seen[replica.id]
            self._note(replica, replace(before, warmed=before.warmed + 1))
        self._wake(replica.app)

    def _note(self, replica: ObservedReplica, history: ProbeHistory) -> None:
        if replica.id in self._seen:
            self._seen[replica.id] = history


def pause(check: Check, history: ProbeHistory, served: bool, took: float) -> float:
    """Seconds until the next check, after one that took so long. Of a replica that has served, checks are as far apart
    from beginning to beginning as the file says, so that ``fall`` of them that hang take ``fall`` intervals, too."""
    settled = history.passes >= check.rise or history.fails >= check.fall
    if served:
        return max(0.0, (check.interval if settled else min(check.fast_interval, check.interval)) - took)
    if history.passes >= check.rise:
        return check.interval
    return max(check.start_interval, took if check.by_daemon else 0.0)  # a command takes a processor from who starts


def _verdict(check: Check, history: ProbeHistory) -> tuple[bool, bool]:
    return history.passes >= check.rise, history.fails >= check.fall
