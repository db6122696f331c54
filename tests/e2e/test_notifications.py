"""Notices from a real server: by mail through a real mail server, by a web hook that fails first, over kills."""

from __future__ import annotations

import email
import email.policy
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from tests.e2e.conftest import new_hello
from tests.e2e.running import Hello, Server, until
from tests.e2e.scenario import same_on_both
from tests.e2e.site import Site

from rota.testing.faults import VARIABLE
from rota.testing.post import Hook, web_hook
from rota.testing.server import free_port

pytestmark = same_on_both

SECRET = "hunter2-hunter2"


class Mailbox:
    """What the mail server took."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []
        self.ids: list[str] = []
        self.before_answer: Callable[[], None] = lambda: None

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        text = mail.get_body(("plain",))
        assert text is not None
        self.mails.append((str(mail["Subject"]), str(text.get_content())))
        self.ids += [str(one) for one in mail.get_all("Message-ID", [])]
        self.before_answer()
        return "250 taken"


@pytest.fixture(scope="module")
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port()
    controller = Controller(box, hostname="127.0.0.1", port=port)
    controller.start()
    yield box, port
    controller.stop()


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with web_hook() as made:
        yield made


@pytest.fixture(scope="module")
def own(site: Site, mailbox: tuple[Mailbox, int]) -> Iterator[Server]:
    """A server of its own: it is killed."""
    mail = f"mailto://127.0.0.1:{mailbox[1]}?from=rota@example.org&to=ops@example.org"
    server = Server(None, "--notify", mail, site=site)
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def app(own: Server, hook: Hook, tmp_path_factory: pytest.TempPathFactory) -> Hello:
    hello = new_hello(own, tmp_path_factory.mktemp("notices") / "hello")
    return hello.deployed(**keys(hook))


def keys(hook: Hook) -> dict[str, Any]:
    restart = {"attempts": 2, "delay": "10ms", "max_delay": "100ms"}
    return {"replicas": 1, "notify": [hook.url], "restart": restart, "stop_grace_period": "1s"}


def bad(app: Hello, hook: Hook, crash_after: str = "0") -> None:
    app.write(**keys(hook), env={"HELLO_CRASH_AFTER": crash_after, "DATABASE_PASSWORD": SECRET})


def newest(app: Hello) -> str:
    """The app's last rollout."""
    return str(app.server.api(f"rollouts?app={app.name}")["rollouts"][0]["id"])


@pytest.mark.feature("S5", "W5")
def test_a_deploy_that_went_back_is_told_by_mail_and_hook(app: Hello, hook: Hook, mailbox: tuple[Mailbox, int]) -> None:
    box, _ = mailbox
    mails, refused, taken = len(box.mails), len(hook.refused), len(hook.taken)
    hook.refuse = 1
    bad(app, hook)
    assert app.deploy().code == 5
    until(lambda: len(box.mails) == mails + 1 and len(hook.refused) == refused + 1)
    until(lambda: len(hook.taken) == taken + 1)  # the next try
    subject, text = box.mails[-1]
    assert subject == f"{app.name}: {newest(app)}: deploy rolled back: crashed"
    assert "the environment variable DATABASE_URL is missing" in text
    assert "Release 1 serves." in text
    assert hook.taken[-1] == hook.refused[-1]
    assert hook.taken[-1]["title"] == subject
    assert SECRET not in f"{box.mails}{hook.taken}"


@pytest.mark.feature("S5")
def test_one_message_an_incident_over_three_crashes_of_the_daemon(
    app: Hello, own: Server, hook: Hook, mailbox: tuple[Mailbox, int]
) -> None:
    """None of them between the moment that the mail is taken and the note of it: then it comes twice."""
    box, _ = mailbox
    before = len(box.mails)
    bad(app, hook)
    own.kill()
    own.start(**{VARIABLE: "recorded:FinishRollout"})  # dies between the record and the sending
    deploying = own.begin("deploy", "--detach", cwd=app.directory)
    assert own.ended() == -signal.SIGKILL
    deploying.end()
    assert len(box.mails) == before
    own.start()
    subjects = [f"{app.name}: {newest(app)}: deploy rolled back: crashed"]
    until(lambda: f"the notice {subjects[0]!r} was taken by mailto:" in own.running.log)
    for _ in range(2):
        own.kill()
        own.start()
    assert app.deploy().code == 5  # to one address letters go in order: what were still to come came before this one
    subjects.append(f"{app.name}: {newest(app)}: deploy rolled back: crashed")
    until(lambda: f"the notice {subjects[1]!r} was taken by mailto:" in own.running.log)
    assert [subject for subject, _ in box.mails[before:]] == subjects


@pytest.mark.feature("S5")
def test_a_letter_that_was_not_taken_when_the_daemon_died_is_sent_again_under_its_name(
    app: Hello, own: Server, hook: Hook, mailbox: tuple[Mailbox, int]
) -> None:
    box, _ = mailbox
    mails, before = len(box.mails), len(hook.taken)

    def die() -> None:
        """Once both are there: each is killed before it is noted that it was taken."""
        if len(box.mails) > mails and len(hook.names) > names:
            os.kill(own.running.pid, signal.SIGKILL)
            died.set()
        died.wait(20)

    names, died = len(hook.names), threading.Event()
    hook.before_answer, box.before_answer = lambda body: die(), die
    bad(app, hook)
    own.rota("deploy", "--detach", cwd=app.directory)
    assert own.ended() == -signal.SIGKILL
    hook.before_answer, box.before_answer = lambda body: None, lambda: None
    own.start()
    until(lambda: len(hook.taken) >= before + 2 and len(box.mails) >= mails + 2)
    assert hook.taken[-1] == hook.taken[-2]
    assert hook.names[-1] == hook.names[-2]
    assert box.mails[-1] == box.mails[-2]
    assert box.ids[-1] == box.ids[-2]
    assert len(box.ids) == len(box.mails)
    assert len(set(box.ids)) == len(box.ids) - 1


def marked(app: Hello, hook: Hook) -> Path:
    """A release that does not start while its marker, this file, is there."""
    marker = app.directory / "crash"
    loop = f"import os; os.path.exists({str(marker)!r}) and exit(3); os.execlp('python3', 'python3', 'app.py')"
    seen = {"volumes": [f"{app.directory}:{app.directory}"]} if app.server.site.name == "docker" else {}
    # What fails so soon would be rolled back, if it were watched.
    app.deployed(**keys(hook), **seen, command=["python3", "-c", loop], rollout={"monitor": 0})
    return marker


@pytest.mark.feature("S5")
def test_a_crash_loop_is_told_once(app: Hello, own: Server, hook: Hook) -> None:
    own.ok("restart", app.name)
    before = len(hook.taken)
    marker = marked(app, hook)
    marker.touch()
    app.kill(app.ids[0])
    until(lambda: len(hook.taken) > before)
    told = hook.taken[before]
    assert told["title"] == f"{app.name}: crash loop"
    assert "2 tries in a row brought no replica that lasts" in told["message"]
    marker.unlink()
    until(lambda: [replica["phase"] for replica in app.replicas] == ["ready"])
    assert len(hook.taken) == before + 1


@pytest.mark.feature("S5")
def test_a_restart_that_never_comes_up_is_told_once_after_its_last_try(app: Hello, own: Server, hook: Hook) -> None:
    before, marker = len(hook.taken), marked(app, hook)
    marker.touch()
    rollouts = []
    for _ in range(2):  # to one address notices go in order: a second one of the first would come before the other's
        ended = own.rota("restart", app.name, "--json")
        assert (ended.code, ended.json["phase"], ended.json["reason"]) == (5, "rolled_back", "crashed")
        assert [step["step"] for step in ended.json["steps"]].count("StartReplica") == 2
        rollouts.append(ended.json["id"])
    until(lambda: len(hook.taken) >= before + 2)
    marker.unlink()
    told = [body["title"] for body in hook.taken[before:]]
    assert told == [f"{app.name}: {rollout}: restart rolled back: crashed" for rollout in rollouts]
    assert [replica["phase"] for replica in app.replicas if replica["phase"] != "failed"] == ["ready"]


def test_an_address_that_is_none_is_refused_with_its_place(app: Hello, own: Server, hook: Hook) -> None:
    app.write(**{**keys(hook), "notify": ["nosuch://token@host"]})
    answer = app.deploy()
    assert (answer.code, "token" in answer.err) == (3, False)
    assert "notify: nosuch://… is not an address that notices can be sent to" in answer.err
    app.write(**{**keys(hook), "notify": ["ops@example.org"]})
    answer = own.rota("validate", cwd=app.directory)
    assert answer.code == 3
    assert "notify: an address is expected, such as mailto://" in answer.err
