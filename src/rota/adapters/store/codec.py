"""The stored form of the core's types: JSON, written and read by pydantic; called by the tables.

Fields left out by an older rota get their defaults; a release is written with every field, so that it keeps its
values when a later rota has other defaults. What a person has asked for is read as it was accepted, whatever a later
rota would say to it (core.accepted): its app runs."""

from __future__ import annotations

from dataclasses import replace

from pydantic import TypeAdapter

from rota.core.accepted import Accepted
from rota.core.events import Event
from rota.core.notice import Letter
from rota.core.rollout import Rollout
from rota.core.state import AppState, Release

_STATE = Accepted(AppState)
_RELEASE = Accepted(Release)
_ROLLOUT = Accepted(Rollout)
_EVENT = TypeAdapter(Event)
_LETTER = TypeAdapter(Letter)


def state_text(state: AppState) -> str:
    """The state with neither releases nor rollout: these have rows of their own."""
    return _STATE.adapter.dump_json(state, exclude={"releases": True, "recorded": {"rollout"}}).decode()


def state_of(body: str, releases: dict[int, Release], rollout: Rollout | None) -> AppState:
    """The inverse of ``state_text``, with what it left out."""
    state = _STATE.read(f'{{"releases":{{}},{body[1:]}')
    return replace(state, releases=releases, recorded=replace(state.recorded, rollout=rollout))


def release_text(release: Release) -> str:
    return _RELEASE.adapter.dump_json(release).decode()


def release_of(body: str) -> Release:
    return _RELEASE.read(body)


def rollout_text(rollout: Rollout) -> str:
    return _ROLLOUT.adapter.dump_json(rollout).decode()


def rollout_of(body: str) -> Rollout:
    return _ROLLOUT.read(body)


def event_text(event: Event) -> str:
    """The event without its ``seq``, which is its row's key."""
    return _EVENT.dump_json(event, exclude={"seq"}, exclude_none=True).decode()


def event_of(body: str, seq: int) -> Event:
    return replace(_EVENT.validate_json(body), seq=seq)


def letter_text(letter: Letter) -> str:
    """The letter without what has columns of its own."""
    return _LETTER.dump_json(letter, exclude={"number", "next_try"}).decode()


def letter_of(body: str, number: int, next_try: float | None) -> Letter:
    return replace(_LETTER.validate_json(body), number=number, next_try=next_try)
