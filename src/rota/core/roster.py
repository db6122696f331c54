"""The roster of an app: all its members at one moment. Made by core.situation.

One decision follows the other with a step or two in between. What has not changed since the roster before is taken over
from there, member by member, with all that its member knows: of 200 replicas a decision is about a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import cast

from rota.core.member import Member, is_of
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, Observation, ObservedReplica, ProbeHistory, as_checked
from rota.core.readiness import Readiness, Stage, readiness
from rota.core.rollout import SlotTarget
from rota.core.spec import AppSpec
from rota.core.state import AppState, Release, ReplicaRecord


@dataclass(frozen=True)
class File:
    """A release's file as it is checked, and what that was made of."""

    release: Release
    artefact: Artefact | None
    checked: AppSpec


@dataclass(frozen=True)
class Roster:
    """``at`` is when it was made, ``given`` of what each member was."""

    at: float = -inf
    members: Mapping[ReplicaId, Member] = field(default_factory=dict)
    given: Mapping[ReplicaId, tuple[object, ...]] = field(default_factory=dict)
    files: Mapping[int, File] = field(default_factory=dict)

    @cached_property
    def by_slot(self) -> Mapping[int, Sequence[Member]]:
        found: dict[int, list[Member]] = {}
        for member in self.members.values():
            found.setdefault(member.record.slot, []).append(member)
        return found


NOBODY = Roster()


def roster(
    state: AppState, observed: Observation, now: float, slots: range, standby: SlotTarget | None, before: Roster
) -> Roster:
    """``slots`` are to have a replica, ``standby`` is kept to go back to. ``before`` may be any roster of the app, or
    NOBODY: the last one has the most to take over."""
    recorded, balancer, files = state.recorded.replicas, observed.balancer, _files(state, observed, before)
    members: dict[ReplicaId, Member] = {}
    given: dict[ReplicaId, tuple[object, ...]] = {}
    for name in dict.fromkeys([*cast("Mapping[ReplicaId, object]", recorded), *observed.replicas]):
        known, seen, server = recorded.get(name), observed.replicas.get(name), balancer.servers.get(name)
        record = known or _unrecorded(seen)
        file, probed = files.get(record.release), observed.probes.get(name)
        target = state.desired.target(record.slot) if record.slot in slots else None
        parts = (
            known is not None,
            record,
            seen,
            server,
            probed,
            file.checked if file is not None else None,
            name in observed.busy,
            target,
            server is None or bool(balancer.routes.get(server.backend)),
            standby is not None and is_of(record, standby) and target is not None and not is_of(record, target),
        )
        member = before.members.get(name)
        if member is None or before.given[name] != parts or not _lasts(member, before.at, now):
            member = Member(name, *parts, ready=_readiness(file, seen, probed, now))
        members[name], given[name] = member, parts
    return Roster(now, members, given, files)


def _lasts(member: Member, since: float, now: float) -> bool:
    """Whether time alone has not changed it: how far a replica is, is so until a moment that it says itself, and was
    not so before."""
    return since <= now and (member.ready.until is None or now < member.ready.until)


def _readiness(file: File | None, seen: ObservedReplica | None, probed: ProbeHistory | None, now: float) -> Readiness:
    if seen is None or file is None:
        return Readiness(Stage.STARTING)
    return readiness(file.checked, seen, probed, now)


def _files(state: AppState, observed: Observation, before: Roster) -> Mapping[int, File]:
    files = {}
    for number, release in state.releases.items():
        artefact, file = observed.artefacts.get(number), before.files.get(number)
        if file is None or file.release is not release or file.artefact != artefact:
            file = File(release, artefact, as_checked(release.spec, number, observed.artefacts))
        files[number] = file
    return files


def _unrecorded(seen: ObservedReplica | None) -> ReplicaRecord:
    """A replica that carries our labels and that no record knows: taken at its labels' word. HAProxy may have it."""
    assert seen is not None  # a member is recorded or seen
    return ReplicaRecord(seen.slot, seen.release, seen.generation, seen.started_at, enabled_at=seen.started_at)
