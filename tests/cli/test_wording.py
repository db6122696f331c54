"""What is said of events, steps and orders: once, in a person's words, and only what a person waits for."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.scripted_engine import ScriptedEngine
from tests.cli.rota_command import RotaCommand

from rota.cli import wording


def said(**fields: Any) -> str | None:
    text = wording.event({"kind": "step", "at": None, "rollout": "hello.2"} | fields)
    return text and text.removeprefix("--:--:-- ")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "phase", "phase": "pending"}, None),
        ({"kind": "phase", "phase": "rolling_back", "reason": "cancelled"}, "hello.2 rolling back: cancelled"),
        ({"kind": "phase", "phase": "cancelled", "reason": "cancelled"}, "hello.2 cancelled"),
        ({"step": "OpenGap", "reason": "no replica is in service"}, "hello.2 no replica in service"),
        ({"step": "TakeSlot", "reason": "its turn"}, None),
        ({"kind": "progress", "progress": {"done": 1, "of": 3, "seconds_left": 4.0}}, None),
        (
            {"kind": "preparing", "reason": "pulling ghcr.io/me/app:2: 1.0 of 9.0 MiB"},
            "hello.2 release being made ready: pulling ghcr.io/me/app:2: 1.0 of 9.0 MiB",
        ),
        (
            {"kind": "app", "reason": "runtime-lost", "detail": "the Docker engine does not run; start it"},
            "hello.2 runtime lost: the Docker engine does not run; start it",
        ),
        ({"kind": "app", "reason": "runtime-back"}, "hello.2 runtime is back"),
        ({"kind": "app", "reason": "of a later version"}, None),
        ({"step": "PrepareBackend", "reason": "waiting for it"}, "hello.2 routes being made: waiting for it"),
    ],
)
def test_an_event_is_said_once_or_not_at_all(fields: dict[str, Any], text: str | None) -> None:
    assert said(**fields) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, ""),
        (0.0, "about 1 s left"),
        (11.6, "about 12 s left"),
        (59.8, "about 1 min 0 s left"),
        (190.2, "about 3 min 10 s left"),
    ],
)
def test_the_time_left_is_said_in_whole_seconds(seconds: float | None, text: str) -> None:
    assert wording.time_left({"done": 1, "of": 3, "seconds_left": seconds}) == text
    assert wording.time_left(None) == ""


ROLLOUT = {"id": "hello.2", "kind": "deploy", "phase": "progressing", "from_release": 1, "to_release": 2}


@pytest.mark.parametrize(
    ("verb", "fields", "text"),
    [
        ("pause", {}, "hello.2 deploy pausing: the hand-off under way is finished first"),
        ("pause", {"phase": "paused"}, "hello.2 deploy paused"),
        ("resume", {"phase": "rolling_back"}, "hello.2 deploy rolling back"),
        ("abort", {}, "hello.2 deploy going back to release 1"),
        ("abort", {"from_release": None}, "hello.2 deploy being aborted"),
        ("abort", {"phase": "cancelled"}, "hello.2 deploy cancelled"),
    ],
)
def test_what_was_asked_of_a_rollout_is_said_before_it_is_so(verb: str, fields: dict[str, Any], text: str) -> None:
    assert wording.steered(verb, ROLLOUT | fields) == text


def test_a_scale_during_a_rollout_says_what_goes_on() -> None:
    said = "hello is to have 4; hello.2 deploy goes on beside"
    assert wording.scaled_beside("hello", 4, ROLLOUT, waits=False) == said
    assert wording.scaled_beside("hello", 4, ROLLOUT, waits=True) == f"{said}; Ctrl-C waits no longer"
    assert wording.scaled("hello", 4, ROLLOUT) == "hello has 4 replicas; hello.2 deploy goes on"
    assert wording.scaled("hello", 1, ROLLOUT) == "hello has 1 replica; hello.2 deploy goes on"


def test_the_end_says_what_serves_and_no_reason_twice() -> None:
    ended = {"started_at": None, "finished_at": None, "reason": "", "receipt": None}
    assert wording.ending(ROLLOUT | ended | {"kind": "rollback", "phase": "succeeded", "to_release": 1})[1:] == [
        "release 1 serves now"
    ]
    cancelled = wording.ending(ROLLOUT | ended | {"phase": "cancelled", "reason": "cancelled"})
    assert cancelled == ["hello.2 deploy was cancelled", "release 1 serves"]


def test_what_an_app_wrote_gives_the_terminal_no_orders(rota: RotaCommand, engine: ScriptedEngine) -> None:
    failure = {"replica": "hello-4", "slot": 1, "reason": "crashed", "detail": "exit code 1", "at": "-"}
    engine.ending = {"phase": "failed", "failures": [failure | {"log": ["\x1b[31mred\x1b[0m\x1b]0;title\x07 \tö"]}]}
    assert "\n  | red?]0;title? \tö\n" in rota("restart", "hello").out


def test_a_rollouts_steps_are_shown_as_its_progress_was(rota: RotaCommand, engine: ScriptedEngine) -> None:
    rota("restart", "hello")
    shown = rota("rollout", "show", "hello.1").out.splitlines()
    assert shown[0] == "12:00:01 hello-4 starting: slot 1 is due"
    failed = {"at": None, "step": "FailReplica", "replica": "hello-4", "reason": "it exited with code 1"}
    assert wording.step(failed, "hello.1") == "--:--:-- hello-4 failed: it exited with code 1"


def test_releases_say_which_serves_and_which_were_given_up(rota: RotaCommand) -> None:
    head, *rows = rota("releases", "hello").out.splitlines()
    assert head.split() == ["RELEASE", "STATE", "CREATED", "ROLLOUT", "RUNS"]
    assert [(row.split()[:2], row.split()[-2:]) for row in rows] == [
        (["2", "current"], ["python3", "app.py"]),
        (["1", "given"], ["hello.1", "hello:1"]),
    ]


@pytest.mark.parametrize("command", [["restart", "hello"], ["deploy"]])
def test_a_wrong_flag_is_called_by_its_name(rota: RotaCommand, app: object, command: list[str]) -> None:
    ended = rota(*command, "--delay", "301")
    assert ended.code == 2
    assert "--delay: a delay is 0 to 300 seconds, not 301" in ended.err
    assert "policy." not in ended.err


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({"requests": 1204}, "1,204 requests"),
        ({"requests": 0, "connections": 1}, "0 requests and 1 TCP connection"),
        ({"requests": 7, "connections": 2012}, "7 requests and 2,012 TCP connections"),
    ],
)
def test_tcp_connections_are_counted_beside_requests(counts: dict[str, Any], text: str) -> None:
    assert wording.came(counts) == text
    view = {**counts, "failed": 0, "retried": 0, "redispatched": 0, "cut": 3, "complete": True}
    assert wording.receipt(view)[0] == f"0 failed of {text} (retried 0, redispatched 0, cut 3)"
    assert wording.served(7, 0) == "7"
    assert wording.served(7, 2012) == "7 + 2,012 TCP"


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ("--", "closed"),
        ("CD", "broken off by the client"),
        ("SD", "broken off by the replica"),
        ("SC", "no replica took it"),
        ("sC", "no replica took it"),
        ("sD", "idle for too long"),
        ("cD", "idle for too long"),
        ("DD", "the replica went down"),
        ("K-", "cut"),
        ("PR", "refused"),
    ],
)
def test_a_connection_says_how_it_ended(ended: str, said: str) -> None:
    entry = {
        "protocol": "tcp",
        "at": None,
        "client": "192.0.2.1",
        "port": 5432,
        "received": 1204,
        "sent": 12,
        "total_ms": 4200,
        "replica": "db-1" if ended != "PR" else None,
        "retries": 2 if ended == "SC" else 0,
        "ended": ended,
    }
    again = " after 2 more tries" if ended == "SC" else ""
    whose = "-" if ended == "PR" else "db-1"
    assert wording.request(entry) == f"- 192.0.2.1 TCP 5432 1,204 bytes in, 12 out, 4.2 s {whose} {said}{again}"


def test_a_rollout_that_found_all_as_it_is_to_be_says_so() -> None:
    done = {"phase": "succeeded", "policy": {}, "started_at": None, "finished_at": None}
    on_paper = [{"step": name} for name in ("BeginRollout", "TakeSlot", "FinishSlot", "FinishRollout")]
    (said,) = wording.ending(ROLLOUT | done | {"steps": on_paper})
    assert said == "hello.2 deploy: all is as it is to be already, nothing was changed"
    for steps in ([], [*on_paper, {"step": "PrepareBackend"}]):
        assert "succeeded" in wording.ending(ROLLOUT | done | {"steps": steps})[0]
