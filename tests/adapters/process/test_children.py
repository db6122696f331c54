"""The keeper's children by their client, for whoever else has the keeper start something."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from rota.adapters.keeper import Child, ChildOrder, Children, KeeperLost, Refused
from rota.testing.machine import Machine, machine, until


@pytest_asyncio.fixture
async def box() -> AsyncIterator[Machine]:
    async with machine() as made:
        yield made


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def runs(child: Child | None) -> bool:
    return child is not None and child.state == "running"


async def test_whoever_has_an_answer_finds_it_in_the_mirror(box: Machine) -> None:
    child = await box.children.start(ChildOrder(name="haproxy", argv=["sleep", "60"], meta={"a": 1}))
    assert box.children.known["haproxy"] == child
    assert runs(child)
    changed = await box.children.update("haproxy", {"a": 2})
    assert box.children.known["haproxy"] == changed
    assert changed.meta == {"a": 2}


async def test_a_listener_that_breaks_cuts_nobody_off(box: Machine, caplog: pytest.LogCaptureFixture) -> None:
    def broken(child: Child) -> None:
        raise ValueError("a bug")

    box.children.on_change(broken)
    child = await box.children.start(ChildOrder("one", ["/bin/sleep", "60"]))
    assert runs(child)
    assert (await box.children.until("one", runs, 5)) is not None
    assert "one: its change could not be told" in caplog.text


async def test_a_child_marked_so_is_started_again_and_one_told_not_to_is_not(box: Machine) -> None:
    told: list[str] = []
    box.children.on_change(lambda child: told.append(child.state))
    first = await box.children.start(ChildOrder(name="haproxy", argv=["sleep", "60"], restart=True))
    await box.children.signal("haproxy", "KILL")
    second = await box.children.until(
        "haproxy", lambda child: child is not None and runs(child) and child.run != first.run, 5
    )
    assert second is not None
    assert second.restarts == 1
    states = [state for state, _ in itertools.groupby(told)]  # being signalled is told too
    assert states[:3] == ["running", "exited", "running"]
    await box.children.signal("haproxy", "TERM", restart=False)
    ended = await box.children.until("haproxy", lambda child: child is not None and not child.alive, 5)
    assert ended is not None
    assert ended.signal == signal.SIGTERM
    await box.children.forget("haproxy")
    assert box.children.known == {}


async def test_refusals_carry_the_keepers_reason(box: Machine) -> None:
    await box.children.start(ChildOrder(name="one", argv=["sleep", "60"]))
    with pytest.raises(Refused) as alive:
        await box.children.forget("one")
    assert alive.value.reason == "alive"
    with pytest.raises(Refused) as missing:
        await box.children.start(ChildOrder(name="two", argv=["/not/there"]))
    assert missing.value.reason == "exec-failed"
    with pytest.raises(Refused) as busy:
        await box.children.shutdown()
    assert busy.value.reason == "children-alive"
    assert await box.children.signal("nobody", "TERM") == 0
    await box.children.forget("nobody")


async def test_until_gives_up_at_its_deadline(box: Machine) -> None:
    with pytest.raises(TimeoutError):
        await box.children.until("nobody", runs, 0.05)


async def test_a_keeper_that_cannot_be_started_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeeperLost, match="cannot be started by /not/there"):
        await Children(tmp_path, ["/not/there"]).open()
    with pytest.raises(KeeperLost, match="ended at once with 1"):
        await Children(tmp_path, ["/bin/false"]).open()


async def test_two_clients_find_one_keeper_and_see_each_others_doing(box: Machine) -> None:
    other = Children(box.data_dir)
    await other.open()
    try:
        assert other.data_dir_id == box.children.data_dir_id
        await other.start(ChildOrder(name="one", argv=["sleep", "60"]))
        await box.children.until("one", runs, 5)
    finally:
        await other.close()


async def test_a_keeper_that_ended_leaves_no_zombie_and_its_children_to_the_next(box: Machine) -> None:
    child = await box.children.start(ChildOrder(name="one", argv=["sleep", "60"]))
    assert child.pid is not None
    keeper = parent(child.pid)
    os.kill(keeper, signal.SIGKILL)
    await until(lambda: not os.path.exists(f"/proc/{keeper}"))
    await box.children.until("one", runs, 5)
    assert box.children.known["one"].run == child.run
