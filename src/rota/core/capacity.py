"""Capacity: what an app takes at the peak of an order against what its machine has free (H9).

Pure arithmetic over limits; asked by core.admission before an order changes anything, shown by plans. Limits are what
replicas may use, so they are added up as if all did; where no limit is set nothing is known and nothing is added. What
others use of the memory is measured, and is not free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rota.core.member import is_of
from rota.core.rollout import Rollout
from rota.core.spec import Limits, Order
from rota.core.state import AppState

KEPT_BACK = 256 * 2**20
"""Bytes of memory that no replica is promised, however little others use: for the system, and for daemon (55 MiB
resident after the first apps), keeper (20 MiB) and HAProxy (25 MiB, more with many connections)."""


@dataclass(frozen=True)
class Amount:
    """``memory`` in bytes and ``cpus`` in cores: of a machine, or limits added up."""

    memory: int = 0
    cpus: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.memory + other.memory, round(self.cpus + other.cpus, 6))

    def __mul__(self, count: int) -> Amount:
        return Amount(self.memory * count, round(self.cpus * count, 6))

    def __or__(self, other: Amount) -> Amount:
        """The larger of each."""
        return Amount(max(self.memory, other.memory), max(self.cpus, other.cpus))


@dataclass(frozen=True)
class Use:
    """The memory that a running replica uses, and its limit."""

    memory: int
    limit: int | None


@dataclass(frozen=True)
class Room:
    """What ``machine`` has beside what is ``promised`` to the replicas of all other apps, and beside ``others``: the
    bytes of memory that ``used_by_others`` tells."""

    machine: Amount
    promised: Amount = Amount()
    others: int = KEPT_BACK

    @property
    def free(self) -> Amount:
        memory = self.machine.memory - self.others - self.promised.memory
        return Amount(max(0, memory), max(0.0, round(self.machine.cpus - self.promised.cpus, 6)))


@dataclass(frozen=True)
class Demand:
    """What an app takes at most until it is as it is to be: ``replicas``, ``surge`` more while they are replaced."""

    replicas: int = 0
    surge: int = 0
    amount: Amount = Amount()


@dataclass(frozen=True)
class Capacity:
    """An order's demand in its room. ``held`` is what the app had been promised before: taking no more than that is
    never refused, whatever else has become of the machine."""

    demand: Demand
    held: Amount
    room: Room

    @property
    def memory_fits(self) -> bool:
        return self.demand.amount.memory <= max(self.room.free.memory, self.held.memory)

    @property
    def cpus_fit(self) -> bool:
        return self.demand.amount.cpus <= max(self.room.free.cpus, self.held.cpus)

    @property
    def fits(self) -> bool:
        return self.memory_fits and self.cpus_fit

    def shown(self) -> dict[str, object]:
        """JSON-ready: bytes and cores; ``free`` is ``machine`` less ``promised`` and, of memory, ``others``: what they
        use, at least what is kept back."""
        needed, free, room = self.demand.amount, self.room.free, self.room
        return {
            "replicas": self.demand.replicas,
            "surge": self.demand.surge,
            "memory": {
                "needed": needed.memory,
                "free": free.memory,
                "machine": room.machine.memory,
                "promised": room.promised.memory,
                "kept_back": KEPT_BACK,
                "others": room.others,
            },
            "cpus": {
                "needed": needed.cpus,
                "free": free.cpus,
                "machine": room.machine.cpus,
                "promised": room.promised.cpus,
            },
            "fits": self.fits,
        }


def used_by_others(machine: int, available: int | None, replicas: Iterable[Use]) -> int:
    """The memory of a ``machine`` that no replica under a limit has: the system's, other programs', and what replicas
    without a limit use, since nothing is promised to those. ``available`` is what the kernel could still give, file
    cache that it would drop for it included; None: nobody can tell, and KEPT_BACK stands for it."""
    if available is None:
        return KEPT_BACK
    promised = sum(min(one.memory, one.limit) for one in replicas if one.limit is not None)
    return max(KEPT_BACK, machine - available - promised)


def demand_of(state: AppState | None) -> Demand:
    """An app's demand, the peak of its running rollout included. A stopped app, and one that is about to be, has
    none."""
    if state is None or not state.desired.running:
        return Demand()
    desired, rollout = state.desired, state.recorded.running_rollout
    slots = range(1, desired.replicas + 1)
    if rollout is None or rollout.target is None:
        return Demand(desired.replicas, 0, _total(desired.target(slot).limits for slot in slots))
    return _of_rollout(rollout, desired.replicas, rollout.target.limits)


def promised_to(state: AppState) -> Amount:
    """What no other app may take: its demand, and what it keeps running to go back to at once (S6), which leaves for
    its own orders alone."""
    amount, kept = demand_of(state).amount, state.desired.standby
    if kept is None:
        return amount
    records = state.recorded.replicas.values()
    spare = [one for one in records if is_of(one, kept.target) and not is_of(one, state.desired.target(one.slot))]
    return amount + _amount(kept.target.limits) * len(spare)


def _of_rollout(rollout: Rollout, replicas: int, limits: Limits) -> Demand:
    """Slots go one after the other from what they had to ``limits``, so that the peak is in the first wave or in the
    last."""
    slots = range(1, replicas + 1)
    old = [] if rollout.fresh else [former.limits for slot in slots if (former := rollout.former(slot)) is not None]
    surge = _surge(rollout, slots)
    new, largest_old = _amount(limits), _total([])
    for one in old:
        largest_old |= _amount(one)
    first, last = _total(old) + new * surge, new * replicas + largest_old * surge
    return Demand(replicas, surge, first | last)


def _surge(rollout: Rollout, slots: Iterable[int]) -> int:
    """How many replicas there are above the count while a wave is under way: only start-first has old and new ones of
    a slot at once, and only where a slot gets a new one at all."""
    if rollout.fresh or rollout.policy.order is not Order.START_FIRST:
        return 0
    return min(rollout.policy.parallelism, sum(_is_replaced(rollout, slot) for slot in slots))


def _is_replaced(rollout: Rollout, slot: int) -> bool:
    """Not where only the limits change, live, nor in a deploy of what runs already."""
    former, target = rollout.former(slot), rollout.target
    assert former is not None  # not fresh: something ran before
    assert target is not None  # asked by demand_of
    return (former.release, former.min_generation) != (target.release, target.min_generation)


def _total(limits: Iterable[Limits]) -> Amount:
    return sum(map(_amount, limits), Amount())


def _amount(limits: Limits) -> Amount:
    return Amount(limits.memory or 0, limits.cpus or 0.0)
