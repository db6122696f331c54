"""What every Notifier does: the one in memory, and apprise over a real web hook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

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
    await real.close()


async def test_what_is_sent_arrives_as_it_was_written(subject: Subject) -> None:
    await subject.notifier.check(subject.url)
    await subject.notifier.send(subject.url, "web: crash loop", "first <line>\n  | second & last")
    assert subject.taken() == [("web: crash loop", "first <line>\n  | second & last")]


async def test_a_refusal_is_an_error_and_the_next_try_may_succeed(subject: Subject) -> None:
    subject.refuse(1)
    with pytest.raises(StepFailed, match=r"json://127\.0\.0\.1…: .+"):
        await subject.notifier.send(subject.url, "a", "b")
    await subject.notifier.send(subject.url, "a", "b")
    assert subject.taken() == [("a", "b")]


@pytest.mark.parametrize("url", ["nosuch://user:hunter2@host/token"])
async def test_an_address_that_is_none_is_refused_without_its_secrets(subject: Subject, url: str) -> None:
    with pytest.raises(UsageError, match=r"nosuch://… is not an address") as refusal:
        await subject.notifier.check(url)
    assert "hunter2" not in str(refusal.value)
    assert "token" not in str(refusal.value)
