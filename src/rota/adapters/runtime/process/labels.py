"""The labels of a replica in the keeper's meta, and the replica that a child with such labels is; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import ValidationError

from rota.adapters.clock import SystemClock
from rota.adapters.keeper.client import Child
from rota.adapters.runtime.leases import of
from rota.adapters.runtime.process.cgroups import enforced, limits_in_force
from rota.core.accepted import Accepted
from rota.core.names import ReplicaId
from rota.core.observation import Address, Exit, ObservedReplica, RunState
from rota.core.spec import Limits
from rota.ports.runtime import StartOrder

_LIMITS = Accepted(Limits)
_NOT_FOUND = 127  # what a shell gives for a program that could not be executed (POSIX.1-2017, 2.8.2)


class BrokenLabels(ValueError):
    """Not written by this runtime: left alone."""


@dataclass(frozen=True)
class Labels:
    """What rota wrote to a child when it started it."""

    replica: ReplicaId
    app: str
    slot: int
    release: int
    generation: int
    limits: Limits
    port: int
    stop_signal: str
    ports: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, order: StartOrder, port: int, ports: Mapping[int, int]) -> Self:
        stop = order.spec.stop_signal.removeprefix("SIG")
        of_order = order.replica, order.app, order.slot, order.release, order.generation, order.limits
        return cls(*of_order, port, stop, ports)

    def written(self) -> dict[str, Any]:
        values = {f"rota.{name}": value for name, value in vars(self).items() if name not in {"limits", "ports"}}
        if self.ports:
            values["rota.ports"] = {str(named): port for named, port in self.ports.items()}
        return {**values, "rota.limits": self.limits.model_dump()}

    def leased(self) -> Iterator[tuple[str, int]]:
        """Its ports, each with the holder of its lease."""
        yield self.replica, self.port
        yield from ((of(self.replica, named), port) for named, port in self.ports.items() if port != self.port)

    @classmethod
    def read(cls, meta: Mapping[str, Any]) -> Self | None:
        """None for a child that is no replica; raises BrokenLabels."""
        if "rota.replica" not in meta:
            return None
        try:
            return cls(
                replica=ReplicaId(_text(meta["rota.replica"])),
                app=_text(meta["rota.app"]),
                slot=int(meta["rota.slot"]),
                release=int(meta["rota.release"]),
                generation=int(meta["rota.generation"]),
                limits=_LIMITS.read(json.dumps(meta["rota.limits"])),
                port=int(meta["rota.port"]),
                stop_signal=_text(meta["rota.stop_signal"]),
                ports=ports_in(meta),
            )
        except (AttributeError, KeyError, TypeError, ValueError, ValidationError) as error:
            raise BrokenLabels(f"{type(error).__name__}: {error}") from None


def ports_in(meta: Mapping[str, Any]) -> dict[int, int]:
    """Its ports by those that the file names."""
    return {int(named): int(port) for named, port in meta.get("rota.ports", {}).items()}


def observed(child: Child, labels: Labels, clock: SystemClock) -> ObservedReplica:
    """The child as the engine sees it."""
    return ObservedReplica(
        id=labels.replica,
        app=labels.app,
        slot=labels.slot,
        release=labels.release,
        generation=labels.generation,
        state=RunState.RUNNING if child.state == "running" else RunState.EXITED,
        run=child.run,
        started_at=_started(child, clock),
        address=Address("127.0.0.1", labels.port),
        exit=None if child.state == "running" else _exit(child, clock),
        limits=limits_in_force(child.cgroups, labels.limits),
        limits_enforced=enforced(child.cgroups, labels.limits),
        restarts=child.restarts,
        told_to_stop=child.signalled is not None,
        ports=labels.ports,
    )


def _started(child: Child, clock: SystemClock) -> float:
    if child.start_ticks is not None and child.boot_id == clock.boot_id:
        return clock.at_ticks(child.start_ticks)
    return clock.at_wall(child.started_at) if child.started_at else 0.0


def _exit(child: Child, clock: SystemClock) -> Exit:
    if child.state == "failed":
        return Exit(at=_started(child, clock), code=_NOT_FOUND)
    at = clock.at_wall(child.exited_at) if child.exited_at else clock.now()
    return Exit(at=at, code=child.exit_code, signal=child.signal, oom=child.oom_hint)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError(f"{value!r} is no text")
    return value
