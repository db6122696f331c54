"""Rooms: what the machine has for one app, measured when an order is to be begun or planned (H9); asked by the engine's
face."""

from __future__ import annotations

from collections.abc import Iterable

from rota.core.capacity import Amount, Room, Use, promised_to, used_by_others
from rota.core.observation import RunState
from rota.core.state import AppState
from rota.ports.machine import Machine
from rota.ports.runtime import Runtime
from rota.ports.usage import Usage


class Rooms:
    def __init__(self, machine: Machine, runtime: Runtime, usage: Usage) -> None:
        self._machine = machine
        self._runtime = runtime
        self._usage = usage

    async def beside(self, others: Iterable[AppState]) -> Room:
        """What there is beside the other apps. Raises StepFailed while the runtime cannot be asked."""
        promised = sum(map(promised_to, others), Amount())
        size, available = await self._machine.size(), await self._machine.available()
        uses = await self._uses() if available is not None else ()
        return Room(size, promised, used_by_others(size.memory, available, uses))

    async def _uses(self) -> list[Use]:
        """Of all replicas, those that are about to go as well: their memory is had again."""
        seen, _ = await self._runtime.observe()
        running = [replica for replica in seen.values() if replica.state is RunState.RUNNING]
        readings = await self._usage.usage([replica.id for replica in running])
        return [
            Use(readings[replica.id].memory, replica.limits.memory) for replica in running if replica.id in readings
        ]
