"""Notices: what a person is told by mail or web hook, once an incident (S5); made from a change of state, in the same
commit as the change, by engine.reconciler, engine.diskwatch and engine.certificatewatch."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rota.core import steps as s
from rota.core.quantities import written_seconds
from rota.core.redaction import redacted
from rota.core.rollout import Failure, Phase, Rollout
from rota.core.state import AppState


class Topic(enum.Enum):
    """What a notice is about; web hooks get it in the title, as its first words after the app."""

    ROLLOUT_FAILED = "rollout failed"
    ROLLED_BACK = "rolled back"
    PAUSED = "rollout paused"
    CRASH_LOOP = "crash loop"
    UNHEALTHY = "nobody serves"
    RECOVERED = "recovered"
    DISK_SHORT = "disk short"
    DISK_FREE = "disk free again"
    CERTIFICATE_EXPIRING = "certificate expiring"
    CERTIFICATE_RENEWED = "certificate renewed"


_ENDS = {Phase.FAILED: Topic.ROLLOUT_FAILED, Phase.ROLLED_BACK: Topic.ROLLED_BACK, Phase.PAUSED: Topic.PAUSED}


@dataclass(frozen=True)
class Notice:
    """``app`` is empty for one about the server. ``at`` in seconds of rota's clock."""

    at: float
    app: str
    topic: Topic
    title: str
    body: str


@dataclass(frozen=True)
class Letter:
    """A notice to one address. ``number`` is given by the store, ``attempts`` counts the tries so far, ``failure`` says
    how the last one failed; ``next_try`` is None when there will be no other."""

    notice: Notice
    url: str
    number: int = 0
    attempts: int = 0
    next_try: float | None = 0.0
    failure: str = ""

    @property
    def name(self) -> str:
        """The same at each try, and no other letter's."""
        told = "\0".join((repr(self.notice.at), self.notice.title, self.notice.body, self.url))
        return hashlib.sha256(told.encode()).hexdigest()[:32]


def letters(notices: Iterable[Notice], urls: Iterable[str]) -> tuple[Letter, ...]:
    """One for each address, none twice."""
    addresses = tuple(dict.fromkeys(urls))
    return tuple(Letter(notice, url, next_try=notice.at) for notice in notices for url in addresses)


def addresses(state: AppState) -> tuple[str, ...]:
    """Where an app's notices go: as the file of its current release says, and that of a rollout under way."""
    rollout = state.recorded.rollout
    numbers = {state.desired.current.release, rollout.to_release if rollout is not None else None}
    known = [state.releases[number].spec.notify for number in sorted(filter(None, numbers)) if number in state.releases]
    return tuple(dict.fromkeys(url for urls in known for url in urls))


def of_step(before: AppState, after: AppState, step: s.Step, now: float) -> tuple[Notice, ...]:
    """What is to be told of a step that led from ``before`` to ``after``."""
    match step:
        case s.FailReplica() if _in_crash_loop(after) and not _in_crash_loop(before):
            return (_crash_loop(after, step, now),)
        case s.BeginRollback() if before.recorded.rollout is not None and not step.rollout.pause_asked:
            return (_taken_back(after, before.recorded.rollout, step.rollout, now),)
        case s.SettleSlot() if _in_crash_loop(before) and not _in_crash_loop(after):
            text = f"{step.reason}: the crash loop is over."
            return (_notice(after, Topic.RECOVERED, "recovered", [text], now),)
        case s.HoldRepair() if step.held:
            return (_notice(after, Topic.UNHEALTHY, "nobody serves", [f"{step.reason}."], now),)
        case s.HoldRepair() if after.desired.active:
            return (_notice(after, Topic.RECOVERED, "recovered", [f"{step.reason}."], now),)
        case _:
            return ()


def of_phase(before: Rollout | None, after: AppState, now: float) -> tuple[Notice, ...]:
    """What is to be told of a rollout that did not go as it should; a person's own pause or abort is none."""
    rollout = after.recorded.rollout
    if rollout is None or (before is not None and before.id == rollout.id and before.phase is rollout.phase):
        return ()
    topic = _ENDS.get(rollout.phase)
    if topic is None or rollout.cause is None:
        return ()
    said = f"{rollout.id}: {rollout.kind.value} {rollout.phase.value.replace('_', ' ')}: {rollout.cause.value}"
    lines = [_failed(rollout.failures[-1])] if rollout.failures else [rollout.detail]
    lines += _log(rollout.failures[-1].log) if rollout.failures else []
    lines += _what_now(rollout)
    return (_notice(after, topic, said, lines, now),)


def server_notice(topic: Topic, said: str, now: float) -> Notice:
    """About the server and none of its apps."""
    return Notice(now, "", topic, f"rota: {topic.value}", said)


def _in_crash_loop(state: AppState) -> bool:
    wanted = range(1, state.desired.replicas + 1)
    return any(record.alerted for slot, record in state.recorded.slots.items() if slot in wanted)


def _crash_loop(state: AppState, step: s.FailReplica, now: float) -> Notice:
    restart = state.releases[state.desired.target(step.failure.slot).release].spec.restart
    again = "restart.give_up: it is not tried again until a restart or deploy"
    if not restart.give_up:
        again = f"it is tried again every {written_seconds(restart.max_delay)}"
    tries = f"Slot {step.failure.slot}: {step.attempts} tries in a row brought no replica that lasts; {again}."
    lines = [tries, _failed(step.failure), *_log(step.failure.log)]
    return _notice(state, Topic.CRASH_LOOP, "crash loop", lines, now)


def _taken_back(state: AppState, last: Rollout, back: Rollout, now: float) -> Notice:
    """Of a deploy that had succeeded: told as it begins, when the lines of what failed are at hand."""
    failure = last.failures[-1]
    said = f"{last.id}: {last.kind.value} rolled back: {failure.cause.value}"
    lines = [_failed(failure), *_log(failure.log)]
    lines.append(f"It had succeeded; release {back.to_release} is put back in its place.")
    return _notice(state, Topic.ROLLED_BACK, said, [*lines, f"More: rota rollout show {back.id}"], now)


def _failed(failure: Failure) -> str:
    return f"{failure.replica} {failure.cause.value}: {failure.detail}"


def _log(lines: Sequence[str]) -> list[str]:
    return ["Its last lines:", *(f"  | {line}" for line in lines)] if lines else []


def _what_now(rollout: Rollout) -> list[str]:
    if rollout.phase is Phase.PAUSED:
        return [f"Go on with: rota rollout resume {rollout.id}   or back with: rota rollout abort {rollout.id}"]
    serves = [f"Release {rollout.from_release} serves."] if rollout.phase is Phase.ROLLED_BACK else []
    return [*serves, f"More: rota rollout show {rollout.id}"]


def _notice(state: AppState, topic: Topic, said: str, lines: list[str], now: float) -> Notice:
    secrets = {entry.name: entry.value for release in state.releases.values() for entry in release.spec.env}
    return Notice(now, state.name, topic, f"{state.name}: {said}", redacted("\n".join(lines), secrets))
