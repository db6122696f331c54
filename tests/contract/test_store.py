"""What every store does, the database and the one in memory alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from rota.adapters.store import SqliteStore
from rota.core.notice import Letter, Notice, Topic
from rota.core.rollout import Phase
from rota.core.state import AppState, Desired, Recorded
from rota.ports.store import Answer, Store
from rota.testing import states
from rota.testing.states import app_in_rollout
from rota.testing.store import MemoryStore


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    made: Store = MemoryStore() if request.param == "memory" else await SqliteStore.open(tmp_path / "rota.db")
    yield made
    await made.close()


async def test_a_new_store_is_empty(store: Store) -> None:
    assert await store.load() == ()
    assert await store.rollouts(None, 10) == ()
    assert await store.rollout("hello.1") is None
    assert await store.events() == ()
    assert await store.answer("key") is None


async def test_what_is_saved_is_loaded_exactly(store: Store) -> None:
    state = app_in_rollout()
    await store.save(state, ())
    (loaded,) = await store.load()
    assert loaded == state
    assert repr(loaded) == repr(state)  # == alone takes 1 for 1.0 and for True


async def test_an_app_with_nothing_but_defaults_is_loaded_exactly(store: Store) -> None:
    full = app_in_rollout()
    bare = AppState("bare", Desired(1, full.desired.current), Recorded(), {})
    await store.save(bare, ())
    (loaded,) = await store.load()
    assert repr(loaded) == repr(bare)


async def test_a_later_state_takes_the_place_of_the_earlier(store: Store) -> None:
    for tick in range(3):
        await store.save(app_in_rollout(tick=tick), states.events(tick=tick))
    assert await store.load() == (app_in_rollout(tick=2),)
    assert await store.rollouts(None, 10) == (states.rollout(tick=2),)


async def test_apps_are_kept_apart_and_loaded_by_name(store: Store) -> None:
    beta, alpha = app_in_rollout("beta"), app_in_rollout("alpha", replicas=2)
    await store.save(beta, states.events("beta"))
    await store.save(alpha, states.events("alpha"))
    assert await store.load() == (alpha, beta)


async def test_a_release_that_the_state_has_no_more_is_gone_and_one_that_changed_is_new(store: Store) -> None:
    state = app_in_rollout()
    await store.save(state, ())
    moved = replace(states.release("hello", 3), source=None)
    await store.save(replace(state, releases={2: replace(state.releases[2], created_at=1.0), 3: moved}), ())
    (loaded,) = await store.load()
    assert loaded.releases == {2: replace(state.releases[2], created_at=1.0), 3: moved}


async def test_events_are_numbered_upwards_for_ever(store: Store) -> None:
    first = await store.save(app_in_rollout(), states.events())
    second = await store.forget("hello", states.events(tick=1))
    assert [event.seq for event in first + second] == [1, 2, 3, 4, 5, 6]
    assert tuple(replace(event, seq=0) for event in second) == states.events(tick=1)
    assert await store.events() == first + second


async def test_events_are_found_by_app_and_by_rollout(store: Store) -> None:
    here = await store.save(app_in_rollout("here"), states.events("here", generation=1))
    there = await store.save(app_in_rollout("there"), states.events("there"))
    later = await store.save(app_in_rollout("here"), states.events("here", generation=2))
    assert await store.events(app="here") == here + later
    assert await store.events(rollout="there.7") == there
    assert await store.events(app="here", rollout="here.2") == later
    assert await store.events(app="there", rollout="here.2") == ()


async def test_events_are_read_on_from_a_number_or_from_the_end(store: Store) -> None:
    kept = await store.save(app_in_rollout(), states.events() * 3)
    assert await store.events(after=4) == kept[4:]
    assert await store.events(after=4, limit=2) == kept[4:6]
    assert await store.events(after=9) == ()
    assert await store.events(after=-1, limit=2) == kept[-2:]
    assert await store.events(after=-1) == kept
    assert await store.events(app="other", after=-1) == ()
    assert await store.events(after=-1, limit=0) == ()


async def test_rollouts_are_listed_from_the_newest_in_the_order_they_began(store: Store) -> None:
    for app, generation in (("alpha", 1), ("beta", 1), ("alpha", 2)):
        await store.save(app_in_rollout(app, generation=generation), ())
    await store.save(app_in_rollout("beta", generation=1, tick=9), ())
    assert [rollout.id for rollout in await store.rollouts(None, 10)] == ["alpha.2", "beta.1", "alpha.1"]
    assert [rollout.id for rollout in await store.rollouts(None, 2)] == ["alpha.2", "beta.1"]
    assert [rollout.id for rollout in await store.rollouts("alpha", 10)] == ["alpha.2", "alpha.1"]
    assert await store.rollout("beta.1") == states.rollout("beta", generation=1, tick=9)


async def test_a_state_without_a_rollout_leaves_the_history(store: Store) -> None:
    state = app_in_rollout()
    await store.save(state, ())
    without = replace(state, recorded=replace(state.recorded, rollout=None))
    await store.save(without, ())
    assert await store.load() == (without,)
    assert await store.rollout("hello.7") == state.recorded.rollout


async def test_a_forgotten_app_leaves_its_history(store: Store) -> None:
    state = app_in_rollout()
    saved = await store.save(state, states.events())
    await store.save(app_in_rollout("other"), ())
    await store.forget("hello", ())
    assert [left.name for left in await store.load()] == ["other"]
    assert await store.rollouts("hello", 10) == (state.recorded.rollout,)
    assert await store.events(app="hello") == saved


async def test_forgetting_an_app_that_is_not_there_is_no_error(store: Store) -> None:
    assert len(await store.forget("nobody", states.events("nobody"))) == 3


async def test_an_app_made_anew_under_an_old_name_begins_with_nothing_of_the_old_one(store: Store) -> None:
    old = app_in_rollout()
    await store.save(old, ())
    await store.forget("hello", ())
    again = replace(states.rollout(), created_at=states.BEGAN + 1000, phase=Phase.SUCCEEDED)
    new = replace(old, recorded=replace(old.recorded, rollout=again), releases={1: states.release("hello", 1)})
    await store.save(new, ())
    assert await store.load() == (new,)
    assert await store.rollouts("hello", 10) == (again, old.recorded.rollout)
    assert await store.rollout("hello.7") == again


async def test_an_answer_is_kept_by_its_key_and_a_later_one_replaces_it(store: Store) -> None:
    first, other, second = Answer("a", 202, '{"id":"hello.1"}'), Answer("b", 409, ""), Answer("a", 200, "é")
    await store.keep_answer("key", first)
    await store.keep_answer("other", other)
    assert await store.answer("key") == first
    await store.keep_answer("key", second)
    assert await store.answer("key") == second
    assert await store.answer("other") == other


def letter(url: str = "json://a.example", at: float = 10.0) -> Letter:
    return Letter(Notice(at, "hello", Topic.ROLLED_BACK, "hello: rolled back", "two\nlines"), url, next_try=at)


async def test_letters_are_kept_with_the_events_they_tell_of(store: Store) -> None:
    await store.save(app_in_rollout(), (), [letter(), letter("json://b.example", 9.0)])
    assert await store.due_letters(8.9) == ()
    assert await store.next_letter(0.0) == 9.0
    assert await store.next_letter(9.0) == 10.0
    first, second = await store.due_letters(10.0)
    assert (replace(first, number=0), first.number) == (letter("json://b.example", 9.0), 2)
    assert replace(second, number=0) == letter()


async def test_of_each_address_the_letter_that_has_waited_longest_is_due(store: Store) -> None:
    await store.save(app_in_rollout(), (), [letter(at=12.0), letter("json://b.example", 11.0), letter(at=10.0)])
    first, other = await store.due_letters(99.0)
    assert [(one.url, one.next_try) for one in (first, other)] == [
        ("json://a.example", 10.0),
        ("json://b.example", 11.0),
    ]
    await store.drop_letter(first.number)
    assert [one.next_try for one in await store.due_letters(99.0)] == [11.0, 12.0]


async def test_a_letter_that_was_taken_is_gone_and_one_put_off_waits(store: Store) -> None:
    await store.save(app_in_rollout(), (), [letter(), letter("json://b.example")])
    first, second = await store.due_letters(10.0)
    assert await store.unsent() == ()
    await store.drop_letter(first.number)
    await store.drop_letter(first.number)
    late = replace(second, attempts=1, next_try=20.0, failure="refused")
    await store.put_off(late)
    assert await store.due_letters(19.0) == ()
    assert await store.due_letters(20.0) == (late,)
    assert await store.unsent() == (late,)
    await store.put_off(replace(late, next_try=None))
    assert await store.due_letters(1e12) == ()
    assert await store.next_letter(0.0) is None
    assert await store.unsent() == (replace(late, next_try=None),)


async def test_an_incident_lasts_until_it_is_over(store: Store) -> None:
    assert not await store.incident("disk-short")
    await store.keep_incident("disk-short", True, [letter()])
    await store.keep_incident("disk-short", True, [])
    assert await store.incident("disk-short")
    await store.keep_incident("disk-short", False, [letter("json://b.example", 11.0)])
    assert not await store.incident("disk-short")
    assert [kept.next_try for kept in await store.due_letters(99.0)] == [10.0, 11.0]
