"""Logs of replicas: the end of a file however long, and new lines as they come, over a rotation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rota.adapters.runtime.process.layout import Layout
from rota.adapters.runtime.process.logs import KEPT, FileLogs
from rota.adapters.written import LONGEST_LINE
from rota.core.names import ReplicaId
from rota.ports.logs import LogLine

WEB_1 = ReplicaId("web-1")


class Kept:
    """One replica's log, and whether the replica is still there."""

    def __init__(self, data_dir: Path) -> None:
        self.there = True
        self.layout = Layout(data_dir)
        self.path = self.layout.log(WEB_1)
        self.path.parent.mkdir(parents=True)
        self.logs = FileLogs(self.layout, lambda replica: self.there)

    def write(self, text: str) -> None:
        with open(self.path, "a") as file:
            file.write(text)

    def rotate(self) -> None:
        """As the keeper does it: copied, then cut."""
        self.path.with_name("web-1.log.1").write_text(self.path.read_text())
        with open(self.path, "r+") as file:
            file.truncate(0)


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    return Kept(tmp_path)


async def take(lines: AsyncIterator[LogLine], count: int) -> list[str]:
    async with asyncio.timeout(5):
        return [(await anext(lines)).text for _ in range(count)]


async def rest(lines: AsyncIterator[LogLine]) -> list[str]:
    async with asyncio.timeout(5):
        return [line.text async for line in lines]


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("", 5, ()),
        ("one\ntwo\n", 5, ("one", "two")),
        ("one\ntwo\nthree", 2, ("two", "three")),
        ("one\r\n\ntwo\n", 3, ("one", "", "two")),
        ("x\n", 0, ()),
    ],
)
async def test_tail_gives_the_last_lines(kept: Kept, text: str, count: int, expected: tuple[str, ...]) -> None:
    kept.write(text)
    assert await kept.logs.tail(WEB_1, count) == expected


async def test_tail_reads_a_long_file_from_its_end_and_cuts_long_lines(kept: Kept) -> None:
    kept.write("".join(f"line {number}\n" for number in range(200_000)))
    assert await kept.logs.tail(WEB_1, 3) == ("line 199997", "line 199998", "line 199999")
    kept.write("y" * 500_000 + "\nend\n")
    long, end = await kept.logs.tail(WEB_1, 2)
    assert (len(long), end) == (LONGEST_LINE, "end")


async def test_tail_goes_on_in_the_rotated_file(kept: Kept) -> None:
    kept.write("one\ntwo\n")
    kept.rotate()
    kept.write("three\n")
    assert await kept.logs.tail(WEB_1, 2) == ("two", "three")


async def test_nothing_is_kept_of_a_name_that_is_no_replicas(kept: Kept) -> None:
    for name in ("../../etc/passwd-1", "web", "", "web-1/../web-1"):
        assert await kept.logs.tail(ReplicaId(name), 5) == ()
        assert await rest(kept.logs.follow(ReplicaId(name), 5)) == []


async def test_follow_gives_new_lines_until_the_replica_is_gone(kept: Kept) -> None:
    kept.write("old\nlast\n")
    lines = kept.logs.follow(WEB_1, 1)
    assert await take(lines, 1) == ["last"]
    kept.write("ne")
    kept.write("w\nunfini")
    assert await take(lines, 1) == ["new"]
    kept.write("shed")
    kept.there = False
    assert await rest(lines) == ["unfinished"]


async def test_follow_survives_a_rotation(kept: Kept) -> None:
    kept.write("one\n" * 100)
    lines = kept.logs.follow(WEB_1, 1)
    assert await take(lines, 1) == ["one"]
    kept.write("two\n")
    assert await take(lines, 1) == ["two"]
    kept.rotate()
    kept.write("three\n")
    assert await take(lines, 1) == ["three"]


async def test_follow_gives_the_beginning_of_a_line_without_end_once(kept: Kept) -> None:
    kept.write("first\n")
    lines = kept.logs.follow(WEB_1, 1)
    assert await take(lines, 1) == ["first"]
    kept.write("z" * 1_000_000 + "\nnext\n")
    long, following = await take(lines, 2)
    assert (long, following) == ("z" * LONGEST_LINE, "next")


async def test_follow_gives_a_line_that_was_unfinished_at_first_as_one(kept: Kept) -> None:
    kept.write("first\nunfini")
    lines = kept.logs.follow(WEB_1, 5)
    assert await take(lines, 1) == ["first"]
    kept.write("shed\n")
    assert await take(lines, 1) == ["unfinished"]


def test_a_log_that_another_removal_takes_away_meanwhile_is_passed_over(kept: Kept) -> None:
    """The replica is asked about after the directory was listed: there the other removal comes in between."""
    for number in range(1, KEPT + 4):
        kept.layout.log(ReplicaId(f"web-{number}")).touch()

    def exists(replica: ReplicaId) -> bool:
        if replica == "web-3":
            kept.layout.log(replica).unlink()
        return False

    FileLogs(kept.layout, exists).prune("web")
    assert len(list(kept.layout.logs("web").iterdir())) <= KEPT
