"""The roster of an app: all its members at one moment. Made by core.situation.

One decision follows the other with a step or two in between. What has not changed since the roster before is taken over
from there, member by member, with all that its member has worked out: of 200 replicas a decision is about a few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from rota.core.member import Member, is_of
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, Observation, ObservedReplica, as_checked
from rota.core.readiness import Readiness, Stage, readiness
from rota.core.rollout import SlotTarget
from rota.core.spec import AppSpec
from rota.core.state import AppState, Release, ReplicaRecord

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class File:
    """A release's file with the health check in force, and what that was made of."""

    release: Release
    artefact: Artefact | None
    checked: AppSpec


@dataclass(frozen=True)
class Given:
    """What a roster is made of. ``slots`` are to have a replica, ``standby`` is kept to go back to."""

    state: AppState
    observed: Observation
    now: float
    slots: range
    standby: SlotTarget | None


@dataclass(frozen=True)
class Roster:
    """``given`` is None of one that was never made."""

    given: Given | None = None
    files: Mapping[int, File] = field(default_factory=dict)
    members: Mapping[ReplicaId, Member] = field(default_factory=dict)

    @cached_property
    def by_slot(self) -> Mapping[int, Sequence[Member]]:
        found: dict[int, list[Member]] = {}
        for member in self.members.values():
            found.setdefault(member.record.slot, []).append(member)
        return found


NOBODY = Roster()


def roster(given: Given, before: Roster = NOBODY) -> Roster:
    """``before`` may be any roster of the app: the last one has the most to take over."""
    files = _files(given, before)
    records: Mapping[Any, ReplicaRecord] = given.state.recorded.replicas
    names: dict[ReplicaId, None] = dict.fromkeys([*records, *given.observed.replicas])
    kept = before.members if files == before.files else {}
    anew = _changed(before, given) if kept else frozenset[ReplicaId]()
    members = {name: kept[name] if name in kept and name not in anew else _member(name, given, files) for name in names}
    return Roster(given, files, members)


def _member(name: ReplicaId, given: Given, files: Mapping[int, File]) -> Member:
    known, observed, desired = given.state.recorded.replicas.get(name), given.observed, given.state.desired
    seen, server, probed = observed.replicas.get(name), observed.balancer.servers.get(name), observed.probes.get(name)
    record = known or _unrecorded(seen)
    target = desired.target(record.slot) if record.slot in given.slots else None
    file = files.get(record.release)
    return Member(
        id=name,
        known=known is not None,
        record=record,
        seen=seen,
        server=server,
        probed=probed,
        checked=file.checked if file is not None else None,
        ready=readiness(file.checked, seen, probed, given.now) if seen and file else Readiness(Stage.STARTING),
        busy=name in observed.busy,
        target=target,
        routed=server is None or bool(observed.balancer.routes.get(server.backend)),
        spare=is_of(record, given.standby) and target is not None and not is_of(record, target),
    )


def _files(given: Given, before: Roster) -> Mapping[int, File]:
    files = {}
    for number, release in given.state.releases.items():
        artefact, file = given.observed.artefacts.get(number), before.files.get(number)
        if file is None or file.release is not release or file.artefact != artefact:
            file = File(release, artefact, as_checked(release.spec, number, given.observed.artefacts))
        files[number] = file
    return files


def _changed(before: Roster, now: Given) -> Set[ReplicaId]:
    """Who is another one than before: by what is part of each member alone, or of all of them, or by the time."""
    then = before.given
    if then is None or now.now < then.now or _of_all(then) != _of_all(now):
        return before.members.keys()
    found = set[Any](then.observed.busy ^ now.observed.busy)
    for old, new in zip(_of_each(then), _of_each(now), strict=True):
        found.update(_differing(old, new))
    for slot in _differing(then.state.desired.slots, now.state.desired.slots):
        found.update(member.id for member in before.by_slot.get(slot, ()))
    for member in before.members.values():
        until = member.ready.until
        if until is not None and until <= now.now:
            found.add(member.id)
    return found


def _of_all(given: Given) -> tuple[object, ...]:
    return given.slots, given.standby, given.state.desired.current, given.observed.balancer.routes


def _of_each(given: Given) -> tuple[Mapping[Any, object], ...]:
    seen = given.observed
    return given.state.recorded.replicas, seen.replicas, seen.balancer.servers, seen.probes


def _differing(before: Mapping[_Key, object], now: Mapping[_Key, object]) -> Iterator[_Key]:
    if before is not now and before != now:
        yield from (name for name, one in now.items() if (old := before.get(name)) is not one and old != one)
        yield from before.keys() - now.keys()


def _unrecorded(seen: ObservedReplica | None) -> ReplicaRecord:
    """A replica that carries our labels and that no record knows: taken at its labels' word. HAProxy may have it."""
    assert seen is not None  # a member is recorded or seen
    return ReplicaRecord(seen.slot, seen.release, seen.generation, seen.started_at, enabled_at=seen.started_at)
