"""What a real HAProxy writes of each request: times, who answered, and nothing that breaks the line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rota.adapters.balancer.haproxy import newest
from rota.adapters.balancer.haproxy.access import HaproxyAccessLog
from rota.adapters.balancer.haproxy.newest import LOG, NewestLines
from rota.core.names import ReplicaId
from rota.keeper.log import rotate
from rota.testing.haproxy import APP, HOST, Rig, pool, until

ODD = "/a\"b\\c'd;e%22%0a{}%[src]"


async def entries(rig: Rig, count: int, app: str = APP) -> list[Any]:
    log = HaproxyAccessLog(rig.settings.directory)

    async def there() -> bool:
        return len(await log.tail(app, 100)) >= count

    await until(there, 5)
    return await log.tail(app, 100)


async def test_a_request_is_told_with_its_times_and_its_replica(rig: Rig) -> None:
    await rig.ready(1, pool(None))
    client = rig.client(f"{HOST}:80")
    await client.ask("/slow/0.1?secret=1", "POST")
    (entry,) = await entries(rig, 1)
    told = {name: entry[name] for name in ("app", "client", "method", "host", "path", "status", "replica", "retries")}
    assert told == {
        "app": APP,
        "client": "127.0.0.1",
        "method": "POST",
        "host": f"{HOST}:80",
        "path": "/slow/0.1",
        "status": 200,
        "replica": "hello-1",
        "retries": 0,
    }
    assert entry["id"] == client.head["x-request-id"]
    assert entry["total_ms"] >= entry["response_ms"] >= 100
    assert entry["sent"] > 0 < entry["received"]
    assert not entry["redispatched"]


async def test_nothing_in_a_request_breaks_its_line(rig: Rig) -> None:
    await rig.ready(1, pool(None))
    await rig.say(f"GET {ODD} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
    await rig.client().ask()
    odd, plain = await entries(rig, 2)
    assert odd["path"] == ODD
    assert plain["path"] == "/"


async def test_a_request_that_went_to_another_replica_says_so(rig: Rig) -> None:
    first, _ = await rig.ready(2, pool(None, interval=60))
    await first.stop()
    for _ in range(2):
        await rig.client().ask()
    told = {entry["replica"]: entry for entry in await entries(rig, 2) if entry["retries"]}
    assert told["hello-2"]["redispatched"]


async def test_requests_of_an_app_that_wants_no_log_and_of_nobody_are_not_told(rig: Rig) -> None:
    await rig.ready(1, replace(pool(None, app="quiet"), access_log=False), "quiet.localhost")
    await rig.ready(1, pool(None))
    await rig.client("quiet.localhost").ask()
    await rig.client("nobody.localhost").ask()
    await rig.client().ask()
    assert len(await entries(rig, 1)) == 1
    assert await HaproxyAccessLog(rig.settings.directory).tail("quiet", 10) == []


async def test_the_log_goes_on_without_the_daemon_and_over_rotations(rig: Rig) -> None:
    await rig.ready(1, pool(None))
    await rig.balancer.close()
    log = rig.settings.directory / LOG
    following = HaproxyAccessLog(rig.settings.directory).follow(APP, 10)
    for number in range(1, 4):
        for half in "ab":
            await rig.client().ask(f"/{number}{half}")
            async with asyncio.timeout(5):
                assert (await anext(following))["path"] == f"/{number}{half}"
        if number < 3:
            assert rotate(log, 500)
    assert [entry["path"] for entry in await entries(rig, 6)] == ["/1a", "/1b", "/2a", "/2b", "/3a", "/3b"]
    with log.open("a") as file:
        file.write('{"app":"hello","at":17\n')  # a line that a full disk cut
    assert len(await entries(rig, 6)) == 6
    await following.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/status/503", "/empty"])
async def test_who_failed_is_told(rig: Rig, path: str) -> None:
    await rig.ready(1, pool(None))
    await rig.client().ask(path, "POST")
    (entry,) = await entries(rig, 1)
    assert (entry["status"], entry["ended"][:2]) == ((503, "--") if "503" in path else (502, "SH"))
    assert entry["replica"] == ReplicaId("hello-1")


async def test_a_quiet_app_s_requests_outlast_the_files_of_a_busy_one(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(newest, "_EVERY", 0.01)
    for app in ("busy", "quiet"):
        await rig.ready(1, pool(None, app=app), f"{app}.localhost")
    log = HaproxyAccessLog(rig.settings.directory)
    keeping = asyncio.create_task(log.run())
    try:
        await rig.client("quiet.localhost").ask("/once")
        await entries(rig, 1, "quiet")
        for number in range(4):
            await rig.client("busy.localhost").ask(f"/{number}")

            async def written(count: int = number + 1) -> bool:
                return len(await log.tail("busy", 10)) == count

            await until(written, 5)
            assert rotate(rig.settings.directory / LOG, 300)  # four times that is copied

            async def copied(path: str = f"/{number}") -> bool:
                kept = NewestLines(rig.settings.directory).of("busy")
                return path in {json.loads(line)["path"] for line in kept}

            await until(copied, 5)
        assert [entry["path"] for entry in await log.tail("quiet", 10)] == ["/once"]
        assert [entry["path"] for entry in await log.tail("busy", 10)] == ["/0", "/1", "/2", "/3"]
    finally:
        keeping.cancel()


def told(app: str, numbers: Iterable[int]) -> list[str]:
    return [f'{{"app":"{app}","number":{number}}}' for number in numbers]


def rotated(directory: Path, name: str, *lines: str) -> None:
    """A new file, as the keeper makes one."""
    copy = directory / f"{name}.new"
    copy.write_text("\0\0" + "".join(f"{line}\n" for line in lines))
    copy.rename(directory / name)


def test_a_daemon_that_was_away_finds_what_two_rotations_left_and_copies_it_once(tmp_path: Path) -> None:
    rotated(tmp_path, f"{LOG}.2", *told("a", [1, 2]), "no line", '{"app":"../../etc/passwd","x":1}', '{"app":"","x":1}')
    rotated(tmp_path, f"{LOG}.1", *told("a", [3]), *told("b", [4]))
    for _ in range(2):  # each a daemon that knows nothing of the one before
        lines = NewestLines(tmp_path)
        lines.copy()
        lines.copy()
    assert list(lines.of("a")) == told("a", [1, 2, 3])
    assert list(lines.of("b")) == told("b", [4])
    assert list(lines.of("nobody")) == []
    (tmp_path / f"{LOG}.1").rename(tmp_path / f"{LOG}.2")
    rotated(tmp_path, f"{LOG}.1", *told("a", [5]))
    lines.copy()
    assert list(lines.of("a")) == told("a", [1, 2, 3, 5])
    assert sorted(path.name for path in (tmp_path / "newest").iterdir()) == ["a.log", "b.log"]


def test_what_is_kept_is_bounded_for_each_app_and_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = len(told("a", [10])[0]) + 1
    monkeypatch.setattr(newest, "OF_AN_APP", 3 * one)
    monkeypatch.setattr(newest, "OF_ALL", 5 * one)
    lines = NewestLines(tmp_path)
    for turn, app in enumerate("abc"):
        rotated(tmp_path, f"{LOG}.1", *told(app, range(10 * turn + 10, 10 * turn + 20)))
        lines.copy()
    assert [list(lines.of(app)) for app in "abc"] == [[], [], told("c", [37, 38, 39])]


def test_a_disk_that_refuses_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "newest").write_text("no directory")
    rotated(tmp_path, f"{LOG}.1", *told("a", [1]))
    lines = NewestLines(tmp_path)
    lines.copy()
    (tmp_path / "newest").unlink()
    lines.copy()
    assert list(lines.of("a")) == told("a", [1])
