"""The database: what survives a kill, a full disk, a damaged file and another version of rota."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from rota.adapters.store import SqliteStore, codec, schema, tables
from rota.core.errors import Missing, StepFailed
from rota.core.events import Event, EventKind
from rota.core.state import AppState
from rota.ports.store import Answer
from rota.testing import states
from rota.testing.states import app_in_rollout
from rota.testing.store import MemoryStore

WRITER = """
import asyncio, sys
from pathlib import Path
from rota.adapters.store import SqliteStore
from rota.testing import states

async def write(path: Path, tick: int) -> None:
    store = await SqliteStore.open(path)
    while True:
        await store.save(states.app_in_rollout(tick=tick), states.events(tick=tick))
        print(tick, flush=True)
        tick += 1

asyncio.run(write(Path(sys.argv[1]), int(sys.argv[2])))
"""

CRAMPED_WRITER = """
import asyncio, resource, sys
from pathlib import Path
from rota.adapters.store import SqliteStore
from rota.core.errors import StepFailed
from rota.testing import states

async def write(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.save(states.app_in_rollout(), states.events())
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY))
    tick = 1
    try:
        while tick < 1000:
            await store.save(states.app_in_rollout(tick=tick), states.events(tick=tick))
            tick += 1
    except StepFailed as failure:
        print(failure)
    assert await store.load() == (states.app_in_rollout(tick=tick - 1),)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    numbered = await store.save(states.app_in_rollout(tick=tick), states.events(tick=tick))
    assert [event.seq for event in numbered] == [3 * tick + 1, 3 * tick + 2, 3 * tick + 3], numbered
    await store.close()
    print(tick)

asyncio.run(write(Path(sys.argv[1])))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rota.db"


async def test_a_reopened_file_gives_the_same(path: Path) -> None:
    store = await SqliteStore.open(path)
    kept = await store.save(app_in_rollout(), states.events())
    await store.keep_answer("key", Answer("a", 202, "{}"))
    await store.close()
    store = await SqliteStore.open(path)
    assert repr(await store.load()) == repr((app_in_rollout(),))
    assert await store.rollouts(None, 10) == (states.rollout(),)
    assert await store.events() == kept
    assert await store.answer("key") == Answer("a", 202, "{}")
    assert [event.seq for event in await store.save(app_in_rollout(tick=1), states.events())] == [4, 5, 6]
    await store.close()


async def test_a_save_before_the_first_load_takes_the_place_of_what_was_there(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout(), ())
    await store.close()
    store = await SqliteStore.open(path)
    later = replace(app_in_rollout(tick=1), releases={2: states.release("hello", 2)})
    await store.save(later, ())
    assert await store.load() == (later,)
    await store.close()


async def test_nobody_else_may_read_the_files(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT, 0o644))
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout(), ())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    await store.close()
    assert modes == {"rota.db": 0o600, "rota.db-wal": 0o600}


async def test_a_writer_killed_at_any_moment_leaves_a_whole_state(path: Path) -> None:
    tick = 0
    for wait in (0.0, 0.003, 0.007, 0.015, 0.03, 0.05):
        acknowledged = await asyncio.to_thread(_write_and_kill, path, tick, wait)
        store = await SqliteStore.open(path)
        (loaded,) = await store.load()
        found = loaded.recorded.rollout.cut - 1 if loaded.recorded.rollout else -1
        newest = await store.events(after=-1, limit=3)
        history = await store.rollouts(None, 10)
        await store.close()
        assert found >= acknowledged, "a save that was acknowledged is lost"
        assert loaded == app_in_rollout(tick=found)
        assert history == (loaded.recorded.rollout,)
        assert tuple(replace(event, seq=0) for event in newest) == states.events(tick=found)
        assert newest[-1].seq == 3 * (found + 1)
        tick = found + 1


def _write_and_kill(path: Path, tick: int, wait: float) -> int:
    """The last tick that a killed writer said it had saved."""
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(tick)], stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                writer.wait(wait)
        finally:
            writer.kill()
        said = (first + writer.stdout.read()).split(b"\n")[:-1]
    return int(said[-1])


@pytest.fixture
def small_disk(component: Callable[[str], Path], tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    component("mounts")
    target = tmp_path / "disk"
    target.mkdir()
    options = ["-t", "tmpfs", "-o", "size=1m,mode=0700"]
    subprocess.run(["mount", *options, "rota-test", str(target)], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", str(target)], check=True)


async def test_a_full_disk_loses_nothing_and_is_over_once_there_is_room(small_disk: Path) -> None:
    path = small_disk / "rota.db"
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout(), ())
    filler = small_disk / "filler"
    _fill(filler)
    tick = await _save_until_refused(store, r"rota\.db: disk full; free some space, rota goes on by itself")
    assert await store.load() == (app_in_rollout(tick=tick - 1),)
    with pytest.raises(StepFailed, match="disk full"):
        await store.save(app_in_rollout(tick=tick), states.events(tick=tick))
    filler.unlink()
    numbered = await store.save(app_in_rollout(tick=tick), states.events(tick=tick))
    assert numbered[-1].seq == 3 * tick
    assert await store.load() == (app_in_rollout(tick=tick),)
    await store.close()
    store = await SqliteStore.open(path)
    assert await store.load() == (app_in_rollout(tick=tick),)
    await store.close()


async def _save_until_refused(store: SqliteStore, message: str) -> int:
    """The tick that could not be saved."""
    tick = 0

    async def save_on() -> None:
        nonlocal tick
        while tick < 1000:
            tick += 1
            await store.save(app_in_rollout(tick=tick), states.events(tick=tick))

    with pytest.raises(StepFailed, match=message):
        await save_on()
    return tick


def _fill(filler: Path) -> None:
    space = os.statvfs(filler.parent)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize)


def test_a_limit_on_the_file_size_loses_nothing_and_is_over_once_lifted(path: Path) -> None:
    writer = subprocess.run(
        [sys.executable, "-c", CRAMPED_WRITER, str(path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert writer.returncode == 0, writer.stderr
    message, tick = writer.stdout.splitlines()
    assert message.startswith(f"cannot read or write {path}: disk I/O error (SQLITE_IOERR")
    assert 0 < int(tick) < 1000


async def test_a_failed_write_leaves_the_state_and_the_store_usable() -> None:
    store = MemoryStore()
    await store.save(app_in_rollout(), ())
    store.fail_next(2)
    with pytest.raises(StepFailed, match="disk full"):
        await store.save(app_in_rollout(tick=1), states.events())
    with pytest.raises(StepFailed):
        await store.forget("hello", states.events())
    assert await store.load() == (app_in_rollout(),)
    assert await store.events() == ()
    await store.save(app_in_rollout(tick=2), states.events())
    assert store.saved == [app_in_rollout(), app_in_rollout(tick=2)]


async def test_a_second_process_is_refused(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout(), ())
    code = (
        "import asyncio, sys; from pathlib import Path; from rota.adapters.store import SqliteStore; "
        "asyncio.run(SqliteStore.open(Path(sys.argv[1])))"
    )
    second = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert f"Conflict: {path} is in use by another process" in second.stderr
    await store.save(app_in_rollout(tick=1), ())
    await store.close()


async def test_a_file_of_a_newer_rota_is_refused_and_left_as_it_is(path: Path) -> None:
    await (await SqliteStore.open(path)).close()
    newer = max(schema.scripts()) + 1
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    with pytest.raises(Missing, match=f"written by a newer rota .form {newer}"):
        await SqliteStore.open(path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (newer,)


async def test_an_app_that_this_rota_cannot_read_is_named_with_the_way_out(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout(), ())
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("""UPDATE releases SET body = json_set(body, '$.spec.of_a_later_rota', 1)""")
    store = await SqliteStore.open(path)
    with pytest.raises(StepFailed, match=r"of the app '\w+' cannot be read by rota .* install the rota again"):
        await store.load()
    await store.close()


async def test_an_app_that_an_earlier_rota_accepted_is_read_whatever_the_rules_are_now(path: Path) -> None:
    """Nobody else's app would be served either: the release, the slots' limits and the rollout."""
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout(), ())
    await store.save(app_in_rollout("other"), ())
    await store.close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE releases SET body = json_set(body, '$.spec.drain.timeout', 1e6) WHERE app = 'hello'")
        connection.execute(
            "UPDATE apps SET body = json_set(body, '$.desired.current.limits.memory', 1) WHERE name = 'hello'"
        )
    store = await SqliteStore.open(path)
    read, other = await store.load()
    assert other == app_in_rollout("other")
    assert {release.spec.drain.timeout for release in read.releases.values()} == {1e6}
    assert read.desired.current.limits.memory == 1
    await store.save(replace(read, desired=replace(read.desired, replicas=3)), ())
    await store.close()
    store = await SqliteStore.open(path)
    assert (await store.load())[0].releases == read.releases
    await store.close()


async def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    _write(path, b"no database " * 1000)
    with pytest.raises(StepFailed, match=r"rota\.db is damaged .*; put a backup of it in its place"):
        await SqliteStore.open(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
async def test_a_torn_file_is_named(path: Path, part: float) -> None:
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout(), states.events())
    await store.close()
    os.truncate(path, int(os.stat(path).st_size * part))
    with pytest.raises(StepFailed, match=r"rota\.db is damaged .*; put a backup of it in its place"):
        await SqliteStore.open(path)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


async def test_a_database_of_something_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(StepFailed, match="is a database, but not rota's"):
        await SqliteStore.open(path)


async def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"cannot open .*/missing/rota\.db: No such file"):
        await SqliteStore.open(tmp_path / "missing" / "rota.db")


def test_a_migration_copies_the_file_first_and_is_all_or_nothing(path: Path) -> None:
    one, two = {1: "CREATE TABLE first (x)"}, "CREATE TABLE second (x)"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        schema.migrate(connection, path, one)
        assert [file.name for file in path.parent.iterdir()] == ["rota.db"]
        with pytest.raises(sqlite3.OperationalError, match="nowhere"):
            schema.migrate(connection, path, {**one, 2: two + "; DROP TABLE nowhere"})
        assert _tables(connection) == (1, ["first"])
        schema.migrate(connection, path, {**one, 2: two})
        assert _tables(connection) == (2, ["first", "second"])
    copy = path.with_name("rota.db.form-1")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert _tables(connection) == (1, ["first"])


def _tables(connection: sqlite3.Connection) -> tuple[int, list[str]]:
    form = connection.execute("PRAGMA user_version").fetchone()[0]
    return form, [name for (name,) in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]


async def test_only_so_many_events_rollouts_and_answers_are_kept(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "EVENTS_KEPT", 20)
    monkeypatch.setattr(tables, "PRUNED_EVERY", 10)
    monkeypatch.setattr(tables, "ROLLOUTS_KEPT", 3)
    monkeypatch.setattr(tables, "ANSWERS_KEPT", 5)
    store = await SqliteStore.open(path)
    await store.save(app_in_rollout("quiet", generation=1), ())
    for generation in range(1, 31):
        await store.save(app_in_rollout(generation=generation), states.events(generation=generation))
        await store.keep_answer(f"key {generation}", Answer("a", 202, ""))
    assert [event.seq for event in await store.events()] == list(range(71, 91))
    assert [rollout.id for rollout in await store.rollouts(None, 100)] == [
        "hello.30",
        "hello.29",
        "hello.28",
        "quiet.1",
    ]
    answers = [number for number in range(31) if await store.answer(f"key {number}")]
    assert answers == [26, 27, 28, 29, 30]
    assert len(await store.load()) == 2
    await store.close()


async def test_long_answers_do_not_fill_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "ANSWERS_SIZE", 1000)
    monkeypatch.setattr(tables, "LONG_ANSWER", 300)
    store = await SqliteStore.open(path)
    for number in range(5):
        await store.keep_answer(str(number), Answer("a", 200, "x" * 400))
    kept = [await store.answer(str(number)) is not None for number in range(5)]
    await store.close()
    assert kept == [False, False, False, True, True]


async def test_a_release_and_a_rollout_that_did_not_change_are_not_written_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(path)
    first = app_in_rollout()
    await store.save(first, ())
    written: list[object] = []

    def note(value: object) -> str:
        written.append(value)
        return "{}"

    monkeypatch.setattr(codec, "release_text", note)
    monkeypatch.setattr(codec, "rollout_text", note)
    await store.save(replace(first, desired=replace(first.desired, replicas=9)), ())
    assert written == []
    later = replace(first, recorded=replace(first.recorded, rollout=states.rollout(tick=1)))
    await store.save(later, ())
    assert written == [later.recorded.rollout]
    await store.close()


def test_the_example_state_fills_every_field_in() -> None:
    """Else the tests of what comes back would say nothing about the field that is left out."""
    left = {
        f"{type(value).__name__}.{field.name}"
        for value in _dataclasses(app_in_rollout())
        for field in fields(value)
        if getattr(value, field.name) in (None, (), {}, "")
    }
    assert left == {"Gap.until"}, "one gap of the two is open"


def _dataclasses(value: Any) -> Iterator[Any]:
    if is_dataclass(value):
        yield value
        for field in fields(value):
            yield from _dataclasses(getattr(value, field.name))
    elif isinstance(value, dict):
        for entry in value.values():
            yield from _dataclasses(entry)
    elif isinstance(value, tuple):
        for entry in value:
            yield from _dataclasses(entry)


_NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
_SLOTS = st.dictionaries(st.integers(1, 2**40), _NUMBERS, max_size=3)


@given(text=st.text(max_size=30), number=_NUMBERS, prepared_at=_SLOTS, count=st.integers(0, 2**70))
def test_any_text_and_any_number_come_back_as_they_were(
    text: str, number: float, prepared_at: dict[int, float], count: int
) -> None:
    state = app_in_rollout(replicas=1)
    rollout = replace(states.rollout(), detail=text, started_at=number, cut=count)
    state = replace(state, recorded=replace(state.recorded, prepared_at=prepared_at, rollout=rollout))
    read = codec.state_of(codec.state_text(state), dict(state.releases), codec.rollout_of(codec.rollout_text(rollout)))
    assert repr(read) == repr(state)
    event = Event(number, text, EventKind.APP, detail=text, seq=count)
    assert repr(codec.event_of(codec.event_text(event), count)) == repr(event)


def test_a_state_of_an_older_rota_gets_defaults_for_what_it_had_not() -> None:
    old = codec.state_text(app_in_rollout()).replace('"remove_stopped":false,', "", 1)
    read = codec.state_of(old, {}, None)
    assert isinstance(read, AppState)
    assert read.desired.remove_stopped is True


def test_the_release_keeps_its_values_whatever_the_defaults_are() -> None:
    release = states.release("hello", 1)
    assert '"boot_timeout":60.0' in codec.release_text(release)
    read = codec.release_of(codec.release_text(release))
    assert isinstance(read.spec, BaseModel)
    assert repr(read) == repr(release)
