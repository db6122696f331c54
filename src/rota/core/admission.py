"""Admission: an order is begun only where the machine has room for its peak (H9); called by the engine's face under
the app's lock, and pure, as core.begin is."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from rota.core import order as o
from rota.core.begin import NOBODY, begin
from rota.core.capacity import KEPT_BACK, Capacity, Room, demand_of
from rota.core.errors import CapacityError, UsageError
from rota.core.rollout import Rollout
from rota.core.spec import Order as InOrder
from rota.core.state import AppState
from rota.core.tcp import Listener

_MIB = 2**20


def admit(
    state: AppState | None,
    order: o.Order,
    app: str,
    now: float,
    hosts: Mapping[str, str],
    room: Room,
    removed: Rollout | None = None,
    listeners: Mapping[str, Collection[Listener]] = NOBODY,
) -> AppState:
    """``begin``'s state, if it fits. Raises CapacityError with the numbers, and whatever ``begin`` raises."""

    def begun(state: AppState | None, order: o.Order) -> AppState:
        return begin(state, order, app, now, hosts, removed, listeners)

    after = begun(state, order)
    found = capacity(state, after, room)
    if not found.fits:
        largest = _largest(state, order, found, begun)
        stop_first = _fits_stopping_first(state, order, found, begun)
        raise CapacityError(_told(app, found, largest, stop_first), found.shown() | {"largest": largest})
    return after


def capacity(before: AppState | None, after: AppState, room: Room) -> Capacity:
    """Of the order that makes ``after`` of ``before``."""
    return Capacity(demand_of(after), demand_of(before).amount, room)


def _largest(
    state: AppState | None,
    order: o.Order,
    found: Capacity,
    begun: Callable[[AppState | None, o.Order], AppState],
) -> int:
    """The largest number of replicas with which the order fits; 0 when there is none."""
    for count in range(found.demand.replicas - 1, 0, -1):
        smaller, same = _with_count(state, order, count)
        try:
            if capacity(smaller, begun(smaller, same), found.room).fits:
                return count
        except UsageError:  # its own policy asks for more replicas than that
            return 0
    return 0


def _with_count(state: AppState | None, order: o.Order, count: int) -> tuple[AppState | None, o.Order]:
    """The order for so many replicas, or the app with so many where the order does not say how many."""
    match order:
        case o.Deploy():
            return state, order.model_copy(update={"spec": order.spec.model_copy(update={"replicas": count})})
        case o.Scale():
            return state, order.model_copy(update={"replicas": count})
        case _:
            assert state is not None  # only a deploy begins without one
            return replace(state, desired=replace(state.desired, replicas=count)), order


def _fits_stopping_first(
    state: AppState | None, order: o.Order, found: Capacity, begun: Callable[[AppState | None, o.Order], AppState]
) -> bool:
    """Whether the surge alone is too much, and the order may do without it."""
    if not found.demand.surge or isinstance(order, o.Scale | o.Stop | o.Start | o.Remove):
        return False
    policy = order.policy.model_copy(update={"order": InOrder.STOP_FIRST})
    try:
        return capacity(state, begun(state, order.model_copy(update={"policy": policy})), found.room).fits
    except UsageError:
        return False


def _told(app: str, found: Capacity, largest: int, stop_first: bool) -> str:
    demand, room = found.demand, found.room
    who = f"{demand.replicas} replica{'s' * (demand.replicas != 1)}"
    if demand.surge:
        who += f" and {demand.surge} more while they are replaced"
    parts = []
    if demand.amount.memory:
        parts.append(f"{math.ceil(demand.amount.memory / _MIB):,} MiB of memory ({_memory_free(room)})")
    if demand.amount.cpus:
        plural = "s" * (demand.amount.cpus != 1)
        parts.append(f"{demand.amount.cpus:g} CPU{plural} ({room.free.cpus:g} of {room.machine.cpus:g} free)")
    fit = f"{largest} fit{'s' * (largest == 1)}" if largest else "none fits"
    way_out = "lower the number or the limits, or make room"
    if stop_first:
        way_out = "--order stop-first fits, as it needs none more; or " + way_out
    verb = "needs" if demand.replicas == 1 and not demand.surge else "need"
    return f"{app} does not fit on this machine: {who} {verb} {' and '.join(parts)}; {fit}; {way_out}"


def _memory_free(room: Room) -> str:
    free, machine, promised = (one // _MIB for one in (room.free.memory, room.machine.memory, room.promised.memory))
    apps = f" and {promised:,} MiB promised to other apps" if promised else ""
    used = room.others > KEPT_BACK
    others = f"{room.others // _MIB:,} MiB used by others" if used else f"{KEPT_BACK // _MIB} MiB kept back"
    return f"{free:,} of {machine:,} MiB free, {others}{apps}"
