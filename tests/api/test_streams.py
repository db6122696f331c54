"""Server-sent events: resumed, ended, and never left behind."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.api.api_client import Client
from tests.api.scripted_engine import ScriptedEngine, Served

from rota.api import sse

ROLLOUTS = "/api/v1/apps/hello/rollouts"


def ids(text: bytes) -> list[int]:
    return [int(line[4:]) for line in text.splitlines() if line.startswith(b"id: ")]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_rollouts_events_end_with_it(ask: Client) -> None:
    ask("POST", ROLLOUTS, {"kind": "restart"})
    answer = ask("GET", "/api/v1/rollouts/hello.1/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ids(answer.body) == [1, 2, 3]
    assert b"event: phase\ndata: {" in answer.body


def test_a_stream_goes_on_after_the_last_event_seen(ask: Client) -> None:
    ask("POST", ROLLOUTS, {"kind": "restart"})
    assert ids(ask("GET", "/api/v1/rollouts/hello.1/events", Last_Event_ID="2").body) == [3]
    assert ask("GET", "/api/v1/rollouts/hello.1/events", Last_Event_ID="two").status == 400


def test_events_come_as_they_happen_and_a_client_that_goes_ends_its_stream(ask: Client, engine: ScriptedEngine) -> None:
    line, response = ask.open("GET", "/api/v1/events", Accept="text/event-stream")
    until(lambda: engine.streams == 1)
    ask("POST", ROLLOUTS, {"kind": "restart"})
    got = b""
    while len(ids(got)) < 3:
        got += response.readline()
    line.close()
    response.close()
    until(lambda: engine.streams == 0)


def test_a_stream_begins_with_the_last_events(ask: Client, engine: ScriptedEngine, server: Served) -> None:
    ask("POST", ROLLOUTS, {"kind": "restart"})
    line, response = ask.open("GET", "/api/v1/events?limit=2", Accept="text/event-stream")
    got = b""
    while len(ids(got)) < 2:
        got += response.readline()
    assert ids(got) == [2, 3]
    response.close()
    line.close()


def test_a_silent_stream_shows_that_it_lives(ask: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "HEARTBEAT_SECONDS", 0.05)
    line, response = ask.open("GET", "/api/v1/apps/hello/logs?follow=true&replica=hello-1")
    lines = [response.readline() for _ in range(12)]
    assert b'data: {"replica": "hello-1", "text": "listening"}\n' in lines
    assert lines.count(b": still here\n") >= 2
    response.close()
    line.close()


def test_a_stream_does_not_hold_up_the_end_of_the_server(ask: Client, server: Served, engine: ScriptedEngine) -> None:
    line, response = ask.open("GET", "/api/v1/events", Accept="text/event-stream")
    until(lambda: engine.streams == 1)
    server.stop()  # would never return
    assert response.read().endswith(b"\n\n")
    line.close()
    assert engine.streams == 0


def test_logs_of_a_replica_that_is_not_there_are_refused_before_the_stream(ask: Client) -> None:
    assert ask("GET", "/api/v1/apps/hello/logs?follow=true&replica=hello-9", within=5).status == 404


def test_a_number_of_an_event_that_no_event_can_have_is_refused(ask: Client) -> None:
    for path in ("/api/v1/events", "/api/v1/rollouts/hello.1/events"):
        assert ask("GET", path, Last_Event_ID="9" * 20).status == 400
    assert ask("GET", "/api/v1/events", Last_Event_ID=str(2**63 - 1)).json == {"events": []}
