"""What every Notifier does: the one in memory, and apprise over a real web hook; and what apprise does beyond."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from rota.adapters.notifier import AppriseNotifier
from rota.core.errors import StepFailed, UsageError
from rota.ports.notifier import Notifier
from rota.testing.notifier import FakeNotifier
from rota.testing.post import web_hook


@dataclass
class Subject:
    notifier: Notifier
    url: str
    refuse: Callable[[int], None]
    taken: Callable[[], list[tuple[str, str]]]


@pytest.fixture(params=["fake", "apprise"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "fake":
        fake, url = FakeNotifier(), "json://127.0.0.1/hook"

        def refuse_next(times: int) -> None:
            fake.refusals[url] = times

        yield Subject(fake, url, refuse_next, lambda: [(title, body) for _, title, body in fake.sent])
        return
    real = AppriseNotifier()
    with web_hook() as hook:

        def refuse(times: int) -> None:
            hook.refuse = times

        yield Subject(real, hook.url, refuse, lambda: [(sent["title"], sent["message"]) for sent in hook.taken])


async def test_what_is_sent_arrives_as_it_was_written(subject: Subject) -> None:
    await subject.notifier.check(subject.url)
    await subject.notifier.send(subject.url, "web: crash loop", "first <line>\n  | second & last", "n1")
    assert subject.taken() == [("web: crash loop", "first <line>\n  | second & last")]


async def test_a_refusal_is_an_error_and_the_next_try_may_succeed(subject: Subject) -> None:
    subject.refuse(1)
    with pytest.raises(StepFailed, match=r"json://127\.0\.0\.1…: .+"):
        await subject.notifier.send(subject.url, "a", "b", "n2")
    await subject.notifier.send(subject.url, "a", "b", "n2")
    assert subject.taken() == [("a", "b")]


@pytest.mark.parametrize("url", ["nosuch://user:hunter2@host/token"])
async def test_an_address_that_is_none_is_refused_without_its_secrets(subject: Subject, url: str) -> None:
    with pytest.raises(UsageError, match=r"nosuch://… is not an address") as refusal:
        await subject.notifier.check(url)
    assert "hunter2" not in str(refusal.value)
    assert "token" not in str(refusal.value)


async def test_several_addresses_are_checked_together(subject: Subject) -> None:
    with pytest.raises(UsageError, match=r"nosuch://… is not an address"):
        await subject.notifier.check(subject.url, "nosuch://host")
    await subject.notifier.check()


async def test_a_letter_has_one_name_for_all_its_tries() -> None:
    with web_hook() as hook:
        hook.refuse = 1
        notifier = AppriseNotifier()
        with pytest.raises(StepFailed):
            await notifier.send(hook.url, "a", "b", "n3")
        await notifier.send(hook.url, "a", "b", "n3")
    assert hook.names == ["n3", "n3"]


async def test_an_address_that_does_not_answer_holds_up_neither_another_nor_a_check() -> None:
    notifier, answer = AppriseNotifier(), threading.Event()
    with web_hook() as stuck, web_hook() as hook:
        stuck.before_answer = lambda body: bool(answer.wait(30)) and None
        waiting = asyncio.create_task(notifier.send(stuck.url, "a", "b", "n4"))
        await notifier.send(hook.url, "a", "b", "n5")
        await notifier.check(hook.url)
        assert not waiting.done()
        answer.set()
        await waiting
    assert [len(one.taken) for one in (stuck, hook)] == [1, 1]


async def test_one_that_answers_a_byte_at_a_time_is_given_up_and_its_process_ended() -> None:
    """Apprise's own timeouts are for one read each, and never come."""
    async with dripping() as (url, _):
        with pytest.raises(StepFailed, match=r"json://127\.0\.0\.1… did not answer within 3 s"):
            await AppriseNotifier(patience=3.0).send(url, "a", "b", "n6")
    assert couriers() == []


async def test_a_send_that_is_cancelled_leaves_nothing_behind() -> None:
    async with dripping() as (url, connected):
        sending = asyncio.create_task(AppriseNotifier().send(url, "a", "b", "n7"))
        await connected.wait()
        sending.cancel()
        await asyncio.wait([sending])
    assert couriers() == []


async def test_no_address_is_in_the_arguments_of_a_process() -> None:
    async with dripping() as (url, connected):
        sending = asyncio.create_task(AppriseNotifier().send(url + "?token=hunter2", "a", "b", "n8"))
        await connected.wait()
        (courier,) = couriers()
        assert b"hunter2" not in Path(f"/proc/{courier}/cmdline").read_bytes()
        sending.cancel()
        await asyncio.wait([sending])


async def test_a_check_that_takes_too_long_refuses_nobody(caplog: pytest.LogCaptureFixture) -> None:
    await AppriseNotifier(check_patience=0.0).check("nosuch://host")
    assert "could not be checked" in caplog.text


@contextlib.asynccontextmanager
async def dripping() -> AsyncIterator[tuple[str, asyncio.Event]]:
    """A web hook that answers one byte every now and then, for ever; and whether somebody came."""
    connected = asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        with contextlib.suppress(ConnectionError):
            while not reader.at_eof():
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.2)
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    try:
        yield f"json://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", connected
    finally:
        server.close()


def couriers() -> list[str]:
    """The processes that this one has for sending."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (place / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == os.getpid() and b"rota.adapters.courier" in (place / "cmdline").read_bytes():
                found.append(place.name)
    return found
