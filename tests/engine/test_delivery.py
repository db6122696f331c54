"""Letters: written with what they tell of, sent until they are taken, never lost over a crash."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable

import pytest
from tests.engine.daemon import World, quick

from rota.core import order as o
from rota.core.errors import StepFailed
from rota.core.expiry import EXPIRING, Certificate
from rota.core.notice import Letter, Notice, Topic
from rota.engine import delivery
from rota.engine.certificatewatch import CertificateWatch
from rota.engine.delivery import Delivery
from rota.engine.diskwatch import INCIDENT, DiskWatch
from rota.engine.journal import Journal
from rota.engine.loops import running
from rota.testing.clock import FakeClock
from rota.testing.notifier import FakeNotifier
from rota.testing.runtime import Faults
from rota.testing.store import MemoryStore

OPS, HOOK = "mailto://ops.example", "json://hook.example"


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World()
    made.notify = (OPS,)
    try:
        await made.start()
        await made.order(o.Deploy(spec=quick(notify=[HOOK])))
        await made.until_over()
        yield made
    finally:
        await made.close()


async def fail_a_deploy(world: World) -> None:
    world.runtime.faults = lambda order: Faults(crash_after=0.0) if order.release > 1 else Faults()
    await world.order(o.Deploy(spec=quick("bad", notify=[HOOK])))


def sending(world: World, notifier: FakeNotifier) -> Delivery:
    assert world.supervisor is not None
    return Delivery(world.store, notifier, world.clock, world.supervisor.journal)


async def test_each_address_is_told_once(world: World) -> None:
    notifier = FakeNotifier()
    async with running(outbox=sending(world, notifier).run):
        await fail_a_deploy(world)
        await world.until_over()
        await world.until(lambda: len(notifier.sent) == 2)
    assert {url for url, _, _ in notifier.sent} == {OPS, HOOK}
    assert {title for _, title, _ in notifier.sent} == {"web: web.2: deploy rolled back: crashed"}
    assert await world.store.due_letters(1e12) == ()


@pytest.mark.parametrize("point", ["decided:FinishRollout", "recorded:FinishRollout"])
async def test_a_daemon_killed_between_the_record_and_the_sending_loses_none(world: World, point: str) -> None:
    await world.close()
    await world.start(point)
    await fail_a_deploy(world)
    await world.until(world.kill.hit.is_set)
    await world.close()
    notifier = FakeNotifier()
    await world.start()
    async with running(outbox=sending(world, notifier).run):
        await world.until(lambda: len(notifier.sent) == 2)
    await world.until_over()
    assert len(notifier.sent) == 2


async def test_a_delivery_that_breaks_does_not_break_again_at_once(world: World) -> None:
    class Broken(FakeNotifier):
        tries = 0

        async def send(self, url: str, title: str, body: str, name: str) -> None:
            self.tries += 1
            raise ValueError("a bug")

    notifier = Broken()
    async with running(outbox=sending(world, notifier).run):
        await fail_a_deploy(world)
        await world.until_over()
        await world.until(lambda: notifier.tries == 2)
        for _ in range(100):
            await asyncio.sleep(0)
    assert notifier.tries == 2  # one for each address


async def test_one_that_is_refused_is_tried_again_and_holds_up_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_WAIT", 0.02)
    notifier = FakeNotifier()
    notifier.refusals[OPS] = 3
    async with running(outbox=sending(world, notifier).run):
        await fail_a_deploy(world)
        await world.until(lambda: len(notifier.sent) == 2)
    assert [url for url, _, _ in notifier.sent] == [HOOK, OPS]


async def test_a_store_that_cannot_be_written_costs_no_letter(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "STORE_AGAIN", 0.01)
    await fail_a_deploy(world)
    await world.until_over()
    world.store.fail_next(2)
    notifier = FakeNotifier()
    async with running(outbox=sending(world, notifier).run):
        await world.until(lambda: not world.store._letters)
    assert {url for url, _, _ in notifier.sent} == {OPS, HOOK}


async def test_a_letter_that_was_taken_and_could_not_be_dropped_is_dropped_and_not_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(delivery, "STORE_AGAIN", 0.01)
    store, notifier = await with_letters(("a", HOOK)), FakeNotifier()
    notifier.on_send = lambda: store.fail_next(2)
    async with at_work(store, notifier):
        await eventually(lambda: not store._letters)
    assert len(notifier.sent) == 1


async def test_an_address_that_does_not_answer_holds_up_no_other_and_its_own_are_in_order() -> None:
    store, notifier = await with_letters(("a", HOOK), ("a", OPS), ("b", HOOK), ("b", OPS)), FakeNotifier()
    notifier.stuck[HOOK] = asyncio.Event()
    async with at_work(store, notifier):
        await eventually(lambda: len(notifier.sent) == 2)
        assert [(url, title) for url, title, _ in notifier.sent] == [(OPS, "a"), (OPS, "b")]
        notifier.stuck[HOOK].set()
        await eventually(lambda: len(notifier.sent) == 4)
    assert [(url, title) for url, title, _ in notifier.sent[2:]] == [(HOOK, "a"), (HOOK, "b")]
    assert len(set(notifier.names)) == 4


async def test_few_are_under_way_at_once() -> None:
    store, notifier = await with_letters(*(("a", f"json://{number}") for number in range(9))), FakeNotifier()
    begun: list[int] = []
    notifier.on_send = lambda: begun.append(1)
    for number in range(9):
        notifier.stuck[f"json://{number}"] = asyncio.Event()
    async with at_work(store, notifier):
        await eventually(lambda: len(begun) == delivery.AT_ONCE)
        for event in notifier.stuck.values():
            event.set()
        await eventually(lambda: len(notifier.sent) == 9)


async def test_what_is_under_way_when_the_daemon_ends_is_the_next_ones() -> None:
    store, notifier = await with_letters(("a", HOOK)), FakeNotifier()
    begun = asyncio.Event()
    notifier.on_send, notifier.stuck[HOOK] = begun.set, asyncio.Event()
    async with at_work(store, notifier):
        await begun.wait()
    assert notifier.sent == []
    notifier.stuck.clear()
    async with at_work(store, notifier):
        await eventually(lambda: not store._letters)
    assert len(notifier.sent) == 1


async def with_letters(*told: tuple[str, str]) -> MemoryStore:
    store = MemoryStore()
    for title, url in told:
        await store.keep_incident("x", True, [Letter(Notice(0.0, "", Topic.DISK_SHORT, title, ""), url)])
    return store


def at_work(store: MemoryStore, notifier: FakeNotifier) -> contextlib.AbstractAsyncContextManager[None]:
    return running(outbox=Delivery(store, notifier, FakeClock(0.0), Journal(store)).run)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


async def test_the_waits_double_and_the_tries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    store, notifier = await with_letters(("a", HOOK)), FakeNotifier()
    notifier.refusals[HOOK] = 1000
    times, clock, before = [0.0], FakeClock(0.0), -1.0
    async with running(outbox=Delivery(store, notifier, clock, journal := Journal(store)).run):
        while not (await store.unsent() and (await store.unsent())[0].next_try is None):
            at = await store.next_letter(times[-1])
            if at is not None and at != before:
                times.append(at)
                clock.advance(at - clock.now())
                journal.letters_written.set()
                before = at
            await asyncio.sleep(0)
    assert times[:4] == [0.0, 2.0, 6.0, 14.0]
    assert max(after - before for before, after in itertools.pairwise(times)) == 3600.0
    assert len(times) == delivery.MOST_ATTEMPTS
    (given_up,) = await store.unsent()
    assert (given_up.attempts, given_up.failure) == (30, "json://hook.example…: not taken")


class Room:
    def __init__(self, free: int) -> None:
        self.free = free

    def room(self) -> tuple[int, int]:
        if self.free < 0:
            raise StepFailed("no disk")
        return self.free, 2**40


async def test_a_short_disk_is_told_once_over_several_daemons() -> None:
    clock, store, disk = FakeClock(5.0), MemoryStore(), Room(2**20)
    for _ in range(3):
        await DiskWatch(disk, store, clock, Journal(store, [OPS])).look()
    (told,) = await store.due_letters(99.0)
    assert told.notice.title == "rota: disk short"
    await store.drop_letter(told.number)
    disk.free = 2**39
    for _ in range(2):
        await DiskWatch(disk, store, clock, Journal(store, [OPS])).look()
    assert [letter.notice.title for letter in store._letters.values()] == ["rota: disk free again"]
    assert not await store.incident(INCIDENT)


class Shown:
    def __init__(self, *expires_at: float) -> None:
        self.expires_at = list(expires_at)

    async def certificates(self) -> list[Certificate]:
        if not self.expires_at:
            raise StepFailed("no engine")
        return [Certificate(f"certificate {number}", at) for number, at in enumerate(self.expires_at)]


@pytest.mark.feature("S5")
async def test_a_certificate_that_expires_is_told_once_over_several_daemons_and_so_is_its_heir() -> None:
    clock, store, shown = FakeClock(0.0), MemoryStore(), Shown(EXPIRING + 10.0, EXPIRING + 1e6)

    async def told() -> list[str]:
        """By a new daemon, which looks twice."""
        watch = CertificateWatch(shown, store, clock, Journal(store, [OPS]))
        await watch.look()
        await watch.look()
        letters = await store.due_letters(clock.now() + 1.0)
        for letter in letters:
            await store.drop_letter(letter.number)
        return [f"{letter.notice.title}: {letter.notice.body}" for letter in letters]

    assert await told() == []
    clock.advance(11.0)
    (said,) = await told()
    assert said.startswith("rota: certificate expiring: certificate 0 expires on 1970-01-15 00:00 UTC, in 13 d")
    assert await told() == []
    shown.expires_at[0] += 1e7
    (said,) = await told()
    assert said.startswith("rota: certificate renewed: certificate 0 expires on 1970-05-")
    assert await told() == []


async def test_certificates_that_cannot_be_looked_at_end_no_watch() -> None:
    store = MemoryStore()
    task = asyncio.create_task(CertificateWatch(Shown(), store, FakeClock(0.0), Journal(store, [OPS])).run())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()


async def test_a_disk_that_cannot_be_looked_at_ends_no_watch() -> None:
    store, disk = MemoryStore(), Room(-1)
    watch = DiskWatch(disk, store, FakeClock(0.0), Journal(store, [OPS]))
    task = asyncio.create_task(watch.run())
    await asyncio.sleep(0)
    assert not task.done()
    task.cancel()
