"""Every refusal is a problem (RFC 9457) that tells what is wrong and nothing of the server's inside."""

from __future__ import annotations

import http.client
import json
from typing import Any

import pytest
from tests.api.api_client import Client
from tests.api.scripted_engine import TOKEN, ScriptedEngine, Served

from rota.core.errors import CapacityError, Problem, SpecError

ROLLOUTS = "/api/v1/apps/hello/rollouts"


@pytest.mark.parametrize("token", [None, "Bearer", "Bearer wrong", "Basic " + TOKEN, f"Bearer {TOKEN}x", "Bearer \xe9"])
@pytest.mark.parametrize("path", ["/api/v1/apps", "/openapi.json", "/nowhere"])
def test_without_the_token_nothing_is_told(ask: Client, token: str | None, path: str) -> None:
    answer = ask("GET", path, Authorization=token)
    assert (answer.status, answer.json["code"], answer.json["exit_code"]) == (401, "not-allowed", 4)
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:7700", 200),
        ("localhost", 200),
        ("rota.localhost:80", 200),
        ("[::1]:7700", 200),
        ("[::1]", 200),
        ("attacker.example", 421),
        ("127.0.0.1.attacker.example:7700", 421),
        ("192.0.2.1", 421),
        ("", 421),
    ],
)
def test_only_a_loopback_name_is_answered(ask: Client, host: str, status: int) -> None:
    assert ask("GET", "/healthz", Host=host).status == status


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("GET", "/api/v1/apps/", 404, "not-found"),
        ("GET", "/api/v1/apps/nope", 404, "not-found"),
        ("GET", "/api/v1/apps/nope/stats", 404, "not-found"),
        ("GET", "/api/v1/apps/nope/logs?follow=true", 404, "not-found"),
        ("GET", "/api/v1/rollouts/hello.99", 404, "not-found"),
        ("GET", "/api/v1/rollouts/hello.99/events", 404, "not-found"),
        ("DELETE", "/api/v1/apps", 405, "request"),
        ("GET", "/api/v1/apps/No%0Aname", 400, "usage"),
        ("GET", "/api/v1/rollouts/..%2F..", 404, "not-found"),
        ("GET", "/api/v1/rollouts/x", 400, "usage"),
        ("GET", "/api/v1/apps/hello/logs?tail=-1", 400, "usage"),
        ("GET", "/api/v1/rollouts?limit=a", 400, "usage"),
        ("HEAD", "/api/v1/sources/xyz", 400, None),
    ],
)
def test_refused_requests(ask: Client, method: str, path: str, status: int, code: str | None) -> None:
    answer = ask(method, path)
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    if code:
        assert (answer.json["code"], answer.json["status"]) == (code, status)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "the body is not JSON: Expecting property name enclosed in double quotes, at character 1"),
        (b"", "a body of JSON is expected"),
        (b"[]", "an object of JSON is expected, not a list"),
        ({}, "kind: one of deploy, limits, "),
        (
            {"kind": "explode"},
            "kind: one of deploy, limits, redeploy, remove, restart, rollback, scale, start, stop is",
        ),
        ({"kind": "restart", "policy": {"delay": "301s"}}, "policy.delay: a delay is 0 to 300 seconds, not 301"),
        ({"kind": "restart", "polisy": {}}, "polisy: there is no such key"),
        ({"kind": "scale", "replicas": 0}, "replicas: at least 1 is expected, not 0"),
        ({"kind": "scale", "replicas": True}, "replicas: a whole number is expected, not true"),
        ({"kind": "scale"}, "replicas: it is missing"),
        (b'{"kind": "restart", "policy": {"delay": "\\ud800"}}', "the body has half of a character"),
        ({"kind": "limits"}, "give memory, cpus or cloudlets"),
    ],
)
def test_a_wrong_order_is_told_where_it_is_wrong(ask: Client, engine: ScriptedEngine, body: Any, detail: str) -> None:
    answer = ask("POST", ROLLOUTS, body)
    assert (answer.status, answer.json["code"], answer.json["exit_code"]) == (400, "usage", 2)
    assert detail in answer.json["detail"]
    assert not engine.orders


def test_a_wrong_file_is_told_by_key(ask: Client) -> None:
    answer = ask("POST", ROLLOUTS, {"kind": "deploy", "spec": {"name": "hello", "command": ["x"], "replicas": 0}})
    assert (answer.status, answer.json["code"], answer.json["exit_code"]) == (422, "invalid-file", 3)
    assert answer.json["problems"][0]["key"] == "replicas"
    assert answer.json["detail"] == "rota.yaml: replicas: at least 1 is expected, not 0"


def test_the_engines_own_problems_keep_their_places(ask: Client, engine: ScriptedEngine) -> None:
    engine.failure = SpecError([Problem("too many replicas", 12, 3, key="replicas")])
    answer = ask("POST", ROLLOUTS, {"kind": "restart"})
    assert answer.json["problems"] == [
        {"message": "too many replicas", "line": 12, "column": 3, "file": "rota.yaml", "key": "replicas"}
    ]


def test_a_bug_is_a_problem_without_its_inside(ask: Client, engine: ScriptedEngine) -> None:
    engine.failure = RuntimeError("secret inside")
    answer = ask("GET", "/api/v1/server")
    assert (answer.status, answer.json["code"]) == (500, "unexpected")
    assert b"secret" not in answer.body


@pytest.mark.parametrize("key", ["", "x" * 201, "with space"])
def test_an_idempotency_key_has_a_form(ask: Client, engine: ScriptedEngine, key: str) -> None:
    assert ask("POST", ROLLOUTS, {"kind": "restart"}, Idempotency_Key=key).status == 400
    assert not engine.orders


def test_a_body_over_the_limit_is_not_read(ask: Client, engine: ScriptedEngine) -> None:
    line = http.client.HTTPConnection("127.0.0.1", ask.port, timeout=20)
    line.putrequest("POST", ROLLOUTS)
    line.putheader("Authorization", f"Bearer {TOKEN}")
    line.putheader("Content-Length", str(9 * 2**20))
    line.endheaders()
    response = line.getresponse()  # before a byte of the body was sent
    assert (response.status, json.load(response)["code"]) == (413, "too-large")
    line.close()


def test_a_body_of_unknown_length_is_counted(server: Served, engine: ScriptedEngine) -> None:
    line = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    chunks = (b'"' + b"x" * 2**20 for _ in range(9))
    line.request("POST", ROLLOUTS, chunks, {"Authorization": f"Bearer {TOKEN}"}, encode_chunked=True)
    response = line.getresponse()
    assert response.status == 413
    line.close()
    assert not engine.orders


def test_no_origin_is_let_in(ask: Client) -> None:
    answer = ask("GET", "/api/v1/apps", Origin="https://attacker.example")
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("numbers", [None, {"replicas": 3, "largest": 2}])
def test_a_shortage_carries_its_numbers(ask: Client, engine: ScriptedEngine, numbers: dict[str, object] | None) -> None:
    engine.failure = CapacityError("hello does not fit", numbers)
    answer = ask("POST", ROLLOUTS, {"kind": "restart"})
    assert (answer.status, answer.json["code"], answer.json["exit_code"]) == (422, "capacity", 3)
    assert answer.json.get("capacity") == numbers
