"""What people are told: once an incident, with the reason and the last lines, and nothing secret."""

from __future__ import annotations

import pytest
from tests.core.scenario import deployed, empty, options, running

from rota.core import order as o
from rota.core import steering
from rota.core.names import ReplicaId
from rota.core.notice import Topic, addresses, letters, server_notice
from rota.core.redaction import redacted, shown
from rota.core.rollout import Phase
from rota.core.shortage import in_words, is_short
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, spec_of

QUICK = {"attempts": 3, "delay": 0.1, "max_delay": 1.0}


def topics(app: Simulation) -> list[Topic]:
    return [notice.topic for notice in app.notices]


def test_what_goes_well_is_no_news() -> None:
    app = deployed()
    app.order(o.Restart())
    app.run(60.0)
    app.runtime.crash(ReplicaId(running(app)[0]))
    app.run(60.0)
    assert topics(app) == []


def test_a_rollout_that_went_back_is_told_with_the_reason_the_lines_and_what_serves() -> None:
    app = deployed(replicas=1)
    app.order(o.Deploy(spec=spec_of("crashing", replicas=1)))
    app.run(0.01)
    app.runtime.write(ReplicaId("web-2"), "Traceback", "boom")
    app.run(60.0)
    (notice,) = app.notices
    assert (notice.topic, notice.title) == (Topic.ROLLED_BACK, "web: web.2: deploy rolled back: crashed")
    assert notice.body == (
        "web-2 crashed: it exited with code 1\nIts last lines:\n  | Traceback\n  | boom\n"
        "Release 1 serves.\nMore: rota rollout show web.2"
    )


def test_a_first_deploy_that_failed_is_told() -> None:
    app = empty()
    app.runtime.prepare_faults["web", 1] = "no compiler"
    app.order(o.Deploy(spec=spec_of("unbuilt")))
    app.run(60.0)
    (notice,) = app.notices
    assert (notice.topic, notice.body) == (Topic.ROLLOUT_FAILED, "no compiler\nMore: rota rollout show web.1")


def test_a_pause_that_waits_for_a_person_is_told_and_their_own_is_not() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of("deaf", replicas=3), policy=options(failure_action="pause")))
    app.run(60.0)
    assert topics(app) == [Topic.PAUSED]
    assert "rota rollout resume web.2" in app.notices[0].body
    app.ask(steering.abort)
    app.run(60.0)
    app.order(o.Restart(policy=options(delay=20.0)))
    app.run(5.0)
    app.ask(steering.pause)
    app.run(60.0)
    assert app.rollout.phase is Phase.PAUSED
    assert topics(app) == [Topic.PAUSED]


def test_a_crash_loop_is_told_once_and_so_is_its_end() -> None:
    app = deployed(restart=QUICK)
    app.runtime.faults = lambda order: MOODS["crashing"]
    for name in running(app):
        app.runtime.crash(ReplicaId(name))
    app.run(30.0)
    (notice,) = app.notices
    assert (notice.topic, notice.title) == (Topic.CRASH_LOOP, "web: crash loop")
    assert "3 tries in a row brought no replica that lasts; it is tried again every 1.0 s." in notice.body
    app.runtime.faults = lambda order: Faults()
    app.run(120.0)
    assert topics(app) == [Topic.CRASH_LOOP, Topic.RECOVERED]
    assert app.notices[1].body.endswith("has been in rotation for a minute: the crash loop is over.")


def test_a_slot_that_was_given_up_says_so_and_a_restart_mends_it() -> None:
    app = deployed(replicas=2, restart={**QUICK, "give_up": True})
    app.runtime.faults = lambda order: MOODS["crashing"]
    app.runtime.crash(ReplicaId("web-1"))
    app.run(60.0)
    assert "it is not tried again until a restart or deploy" in app.notices[0].body
    app.runtime.faults = lambda order: Faults()
    app.order(o.Restart())
    app.run(120.0)
    assert topics(app) == [Topic.CRASH_LOOP, Topic.RECOVERED]


def test_a_start_that_fails_again_and_again_is_a_crash_loop_too() -> None:
    app = deployed(restart=QUICK)
    app.runtime.faults = lambda order: MOODS["refused"]
    app.runtime.crash(ReplicaId("web-1"))
    app.run(30.0)
    assert topics(app) == [Topic.CRASH_LOOP]


def test_an_app_that_nobody_serves_is_told_and_its_recovery() -> None:
    app = deployed()
    now = app.now
    app.unhealthy |= {ReplicaId(name): (now, now + 100.0) for name in running(app)}
    app.run(200.0)
    assert topics(app) == [Topic.UNHEALTHY, Topic.RECOVERED]


def test_an_app_that_is_stopped_has_not_recovered() -> None:
    app = deployed()
    now = app.now
    app.unhealthy |= {ReplicaId(name): (now, now + 1e6) for name in running(app)}
    app.run(100.0)
    app.order(o.Stop())
    app.run(100.0)
    assert topics(app) == [Topic.UNHEALTHY]


def test_letters_go_to_the_apps_addresses_and_the_servers_once_each() -> None:
    app = deployed(notify=["json://one.example", "json://two.example"])
    assert app.state is not None
    assert addresses(app.state) == ("json://one.example", "json://two.example")
    app.order(o.Deploy(spec=spec_of("crashing", replicas=3, notify=["json://three.example"])))
    app.run(60.0)
    assert addresses(app.state) == ("json://one.example", "json://two.example", "json://three.example")
    made = letters(app.notices, ("json://two.example", *addresses(app.state)))
    assert [letter.url for letter in made] == ["json://two.example", "json://one.example", "json://three.example"]
    assert {letter.next_try for letter in made} == {app.notices[0].at}


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("no such host db", "no such host db"),
        ("cannot reach postgres://app:hunter2@db:5432/x", "cannot reach postgres://app:(hidden)@db:5432/x"),
        ("redis://:hunter2@cache", "redis://:(hidden)@cache"),
        ("password=hunter2, next", "password=(hidden), next"),
        ('{"api_key": "abc"}', '{"api_key": (hidden)'),
        ("Authorization: Bearer abc.def", "Authorization: Bearer (hidden)"),
        ("it said s3cr3t-value", "it said (hidden)"),
        ("level info, mode x", "level info, mode x"),
        ("0123456789abcdef0123", "(hidden)"),
        ("in /srv/a/very/long/path", "in /srv/a/very/long/path"),
    ],
)
def test_secrets_are_taken_out(text: str, clean: str) -> None:
    variables = {
        "APP_SECRET": "s3cr3t-value",
        "LEVEL": "info",
        "SALT": "x",
        "SEED": "0123456789abcdef0123",
        "HOME": "/srv/a/very/long/path",
    }
    assert redacted(text, variables) == clean


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("mailto://user:pass@mail.example.org?to=x@y.z", "mailto://mail.example.org…"),
        ("slack://TokenA/TokenB/TokenC", "slack://…"),
        ("json://[broken", "json://…"),
    ],
)
def test_an_address_is_shown_without_its_secrets(url: str, seen: str) -> None:
    assert shown(url) == seen


def test_the_disk_is_short_below_a_share_or_an_amount_and_not_over_at_once() -> None:
    small, large = 10 * 2**30, 10 * 2**40
    assert is_short(small // 21, small)
    assert not is_short(small // 19, small)
    assert is_short(small // 19, small, was=True)
    assert not is_short(2 * 2**30, large)
    assert is_short(2**29, large)
    assert in_words(2**29, 2**34) == "512 MiB of 16,384 MiB are free"
    assert server_notice(Topic.DISK_SHORT, "x", 1.0).title == "rota: disk short"
