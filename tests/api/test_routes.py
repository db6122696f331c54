"""What each route answers, over real HTTP."""

from __future__ import annotations

import hashlib
import json
import time

import pytest
from tests.api.api_client import Client
from tests.api.scripted_engine import ScriptedEngine

from rota.core.errand import Errand
from rota.core.errors import Missing, StepFailed
from rota.core.order import Restart, Stop

EXEC = "/api/v1/apps/hello/exec"
ROLLOUTS = "/api/v1/apps/hello/rollouts"


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("/api/v1/apps", "apps"),
        ("/api/v1/apps/hello", "replicas"),
        ("/api/v1/apps/hello/replicas", "replicas"),
        ("/api/v1/apps/hello/releases", "releases"),
        ("/api/v1/apps/hello/stats", "backends"),
        ("/api/v1/stats", "apps"),
        ("/api/v1/apps/hello/logs", "lines"),
        ("/api/v1/rollouts", "rollouts"),
        ("/api/v1/events", "events"),
        ("/api/v1/server", "version"),
        ("/api/v1/dns", "records"),
    ],
)
def test_reading(ask: Client, path: str, key: str) -> None:
    answer = ask("GET", path)
    assert answer.status == 200
    assert key in answer.json


def test_an_order_begins_a_rollout(ask: Client, engine: ScriptedEngine) -> None:
    answer = ask("POST", ROLLOUTS, {"kind": "restart", "policy": {"delay": "2s"}})
    assert (answer.status, answer.headers["location"]) == (202, "/api/v1/rollouts/hello.1")
    [(app, order)] = engine.orders
    assert app == "hello"
    assert isinstance(order, Restart)
    assert order.policy.delay == 2.0


def test_a_second_rollout_names_the_first(ask: Client, engine: ScriptedEngine) -> None:
    engine.held = True
    ask("POST", ROLLOUTS, {"kind": "restart"})
    refused = ask("POST", ROLLOUTS, {"kind": "restart"})
    assert (refused.status, refused.json["code"], refused.json["rollout"]) == (409, "conflict", "hello.1")
    assert ask("POST", ROLLOUTS, {"kind": "stop", "supersede": True}).status == 202
    assert engine.orders[-1] == ("hello", Stop(supersede=True))


def test_a_command_is_run_and_told(ask: Client, engine: ScriptedEngine) -> None:
    engine.came_of_it = {"exit_code": 3, "timed_out": False, "output": "no\n", "cut": False}
    answer = ask("POST", EXEC, {"command": ["ls", "-l"], "replica": "hello-2", "timeout": "5s"})
    assert (answer.status, answer.json["exit_code"], answer.json["output"]) == (200, 3, "no\n")
    assert engine.errands == [("hello", Errand(command=("ls", "-l"), replica="hello-2", timeout=5))]


@pytest.mark.parametrize(
    ("body", "words"),
    [({}, "command"), ({"command": []}, "command"), ({"command": ["x"], "timeout": 0}, "0.1 to 3600 seconds")],
)
def test_a_command_that_is_none_is_refused(ask: Client, engine: ScriptedEngine, body: object, words: str) -> None:
    answer = ask("POST", EXEC, body)
    assert (answer.status, answer.json["code"]) == (400, "usage")
    assert words in answer.json["detail"]
    assert engine.errands == []
    assert ask("POST", "/api/v1/apps/nosuch/exec", {"command": ["x"]}).status == 404


def test_the_same_key_runs_a_command_once(ask: Client, engine: ScriptedEngine) -> None:
    for _ in range(2):
        assert ask("POST", EXEC, {"command": ["x"]}, idempotency_key="one").status == 200
    assert len(engine.errands) == 1


def test_a_command_ends_when_nobody_waits_for_it(ask: Client, engine: ScriptedEngine) -> None:
    engine.held = True
    with pytest.raises(TimeoutError):
        ask("POST", EXEC, {"command": ["sleep"]}, within=0.2)
    deadline = time.monotonic() + 10
    while not engine.cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert engine.cancelled == 1


def test_a_plan_begins_nothing(ask: Client, engine: ScriptedEngine) -> None:
    answer = ask("POST", "/api/v1/apps/hello/plans", {"kind": "restart", "policy": {"delay": "2s"}})
    assert (answer.status, answer.json["predicted_seconds"]) == (200, 2.5)
    assert engine.orders == []
    [(app, order)] = engine.planned
    assert (app, order.kind) == ("hello", "restart")


@pytest.mark.parametrize("wrong", [{"steps": []}, {"steps": [], "basis": {}, "durations": {"stop": {"seconds": -1}}}])
def test_an_order_with_half_a_plan_is_refused(ask: Client, engine: ScriptedEngine, wrong: object) -> None:
    assert ask("POST", ROLLOUTS, {"kind": "restart", "plan": wrong}).status == 400
    assert engine.orders == []


@pytest.mark.parametrize(("verb", "phase"), [("pause", "paused"), ("resume", "progressing"), ("abort", "cancelled")])
def test_steering(ask: Client, engine: ScriptedEngine, verb: str, phase: str) -> None:
    engine.held = True
    ask("POST", ROLLOUTS, {"kind": "restart"})
    assert ask("POST", f"/api/v1/rollouts/hello.1/{verb}").json["phase"] == phase


@pytest.mark.parametrize(
    ("verb", "body", "key", "value"),
    [
        ("skip", {"slot": 3}, "skipped", [3]),
        ("skip", {"replica": "hello-2"}, "skipped", [2]),
        ("set", {"delay": "5s", "parallelism": "50%"}, "policy", {"delay": 5.0, "parallelism": "50%"}),
    ],
)
def test_steering_with_more_than_a_word(
    ask: Client, engine: ScriptedEngine, verb: str, body: object, key: str, value: object
) -> None:
    engine.held = True
    ask("POST", ROLLOUTS, {"kind": "restart"})
    assert ask("POST", f"/api/v1/rollouts/hello.1/{verb}", body).json[key] == value


@pytest.mark.parametrize(
    ("verb", "body", "words"),
    [
        ("skip", {}, "give a slot or a replica"),
        ("skip", {"slot": 1, "replica": "hello-1"}, "give a slot or a replica"),
        ("set", {}, "give a delay or a parallelism"),
        ("set", {"parallelism": 0}, "1 to 1000 replicas or 1% to 100% of them are expected, not 0"),
        ("set", {"parallelism": "101%"}, 'not "101%"'),
        ("set", {"delay": 301}, "a delay is 0 to 300 seconds, not 301"),
    ],
)
def test_steering_with_wrong_words_is_refused(
    ask: Client, engine: ScriptedEngine, verb: str, body: object, words: str
) -> None:
    engine.held = True
    ask("POST", ROLLOUTS, {"kind": "restart"})
    refused = ask("POST", f"/api/v1/rollouts/hello.1/{verb}", body)
    assert (refused.status, refused.json["exit_code"]) == (400, 2)
    assert words in refused.json["detail"]


def test_steering_what_has_ended_is_a_conflict(ask: Client) -> None:
    ask("POST", ROLLOUTS, {"kind": "restart"})
    assert ask("POST", "/api/v1/rollouts/hello.1/pause").status == 409


def test_a_source_is_uploaded_in_a_stream_and_found_again(ask: Client, engine: ScriptedEngine) -> None:
    content = b"x" * (9 * 2**20)  # more than a JSON body may have
    digest = hashlib.sha256(content).hexdigest()
    assert ask("HEAD", f"/api/v1/sources/{digest}").status == 404
    answer = ask("POST", "/api/v1/sources", content, Content_Type="application/octet-stream")
    assert (answer.status, answer.json) == (201, {"source": digest})
    assert engine.sources.sizes == {digest: len(content)}
    assert ask("HEAD", f"/api/v1/sources/{digest}").status == 200


def test_logs_of_one_replica(ask: Client) -> None:
    assert ask("GET", "/api/v1/apps/hello/logs?replica=hello-2&tail=1").json["lines"] == [
        {"replica": "hello-2", "text": "listening, too"}
    ]


def test_ready_says_what_does_not_answer(ask: Client, engine: ScriptedEngine) -> None:
    assert ask("GET", "/readyz", Authorization=None).status == 200
    for error in (Missing("HAProxy is not installed"), StepFailed("HAProxy does not answer")):
        engine.not_ready = error
        answer = ask("GET", "/readyz", Authorization=None)
        assert (answer.status, answer.json["detail"]) == (503, error.message)
    assert ask("GET", "/healthz", Authorization=None).status == 200


def test_shutdown(ask: Client, engine: ScriptedEngine) -> None:
    assert ask("POST", "/api/v1/shutdown", {"keep_apps": True}).status == 202
    assert engine.shutdowns == [True]


def test_the_same_key_begins_one_rollout(ask: Client, engine: ScriptedEngine) -> None:
    body = {"kind": "restart"}
    first = ask("POST", ROLLOUTS, body, Idempotency_Key="k1")
    again = ask("POST", ROLLOUTS, body, Idempotency_Key="k1")
    assert (again.status, again.json, again.headers["location"]) == (202, first.json, first.headers["location"])
    assert len(engine.orders) == 1
    other = ask("POST", ROLLOUTS, {"kind": "redeploy"}, Idempotency_Key="k1")
    assert (other.status, other.json["code"]) == (422, "key-reused")
    assert len(engine.orders) == 1


def test_a_failure_may_be_tried_again_under_its_key(ask: Client, engine: ScriptedEngine) -> None:
    engine.failure = Missing("no HAProxy")
    assert ask("POST", ROLLOUTS, {"kind": "restart"}, Idempotency_Key="k1").status == 503
    engine.failure = None
    assert ask("POST", ROLLOUTS, {"kind": "restart"}, Idempotency_Key="k1").status == 202


def test_the_description_of_the_api_names_every_route_and_no_cdn(ask: Client) -> None:
    answer = ask("GET", "/openapi.json")
    assert answer.status == 200
    paths = answer.json["paths"]
    assert {"/healthz", "/api/v1/apps/{app}/rollouts", "/api/v1/rollouts/{rollout}/events"} <= set(paths)
    assert "422" not in json.dumps(paths["/api/v1/apps/{app}/rollouts"]["post"]["responses"])
    assert ask("GET", "/docs").status == 404
