"""What rota plan says on a real server, beside what then happens."""

from __future__ import annotations

import http.client
import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.conftest import new_hello
from tests.e2e.running import Hello, Server, until

Sequences = dict[str, list[str]]


@pytest.fixture(scope="module")
def app(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    """Deployed once with two replicas and limits; each test leaves it running."""
    hello = new_hello(server, tmp_path_factory.mktemp("plans") / "hello")
    yield hello.deployed(resources={"memory": "64MiB", "cpus": 0.5})
    server.ok("remove", hello.name, "--yes", "--supersede")


def planned(app: Hello, *words: str) -> dict[str, Any]:
    plan: dict[str, Any] = app.server.ok("plan", *words, "--json", cwd=app.directory).json
    return plan


def by_replica(steps: list[dict[str, Any]]) -> Sequences:
    found: Sequences = {}
    for step in steps:
        if step["replica"] is not None:
            found.setdefault(step["replica"], []).append(step["step"])
    return found


@pytest.mark.feature("R3")
def test_what_is_planned_is_what_happens(app: Hello, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    before = app.ids
    plan = planned(app, "restart", app.name, "--order", "stop-first", "-o", str(file))
    assert app.ids == before
    assert plan["durations"]["boot"]["2"]["of"] >= 2
    assert plan["predicted_seconds"] > 0
    assert (plan["capacity"]["least"], plan["capacity"]["most"]) == (1, 2)
    curve = [serving for serving, _ in itertools.groupby(point["serving"] for point in plan["capacity"]["curve"])]
    assert curve == [2, 1, 2, 1, 2]
    peak = plan["peak"]
    assert (peak["replicas"], peak["memory"], peak["cpus"]) == (2, 2 * 64 * 2**20, 1.0)
    assert peak["free"]["memory"] > peak["memory"]
    done = app.server.ok("restart", app.name, "--plan", str(file), "--json").json
    assert by_replica(done["steps"]) == by_replica(plan["steps"])
    assert (done["policy"]["order"], done["receipt"]["deviations"]) == ("stop-first", [])
    again = app.server.rota("restart", app.name, "--plan", str(file))
    assert again.code == 1
    assert again.err.startswith(f"stale plan: the replicas were {before[0]}, {before[1]}, and are ")
    assert app.server.ok("rollout", "ls", "--app", app.name, "--json").json["rollouts"][0]["id"] == done["id"]


@pytest.mark.feature("R3", "W1")
def test_what_a_repair_did_meanwhile_is_in_the_receipt(app: Hello, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    planned(app, "restart", app.name, "--delay", "300s", "-o", str(file))
    rollout = app.server.ok("restart", app.name, "--plan", str(file), "--detach").out.strip()
    left = app.ids[-1]
    until(lambda: len(app.replicas) == 2 and finished(app, rollout) == 1)
    app.kill(left)  # its slot is taken up at once then, whatever the delay
    app.server.ok("rollout", "watch", rollout)
    deviations = app.server.api(f"rollouts/{rollout}")["receipt"]["deviations"]
    assert f"not planned: FailReplica {left}" in deviations
    assert f"not done: StopReplica {left}" in deviations
    assert not [words for words in deviations if words.startswith("not done: StartReplica")]


def finished(app: Hello, rollout: str) -> int:
    """Slots."""
    return [step["step"] for step in app.server.api(f"rollouts/{rollout}")["steps"]].count("FinishSlot")


@pytest.mark.feature("R3")
def test_a_deploy_is_held_to_its_plan_by_the_file_and_the_source(app: Hello, tmp_path: Path) -> None:
    limits = {"resources": {"memory": "64MiB", "cpus": 0.5}}
    file = tmp_path / "plan.json"
    app.write(env={"HELLO_VERSION": "2"}, **limits)
    plan = planned(app, "-o", str(file))
    assert (plan["kind"], plan["to_release"]) == ("deploy", plan["from_release"] + 1)
    app.write(env={"HELLO_VERSION": "3"}, **limits)
    other_file = app.deploy("--plan", str(file))
    assert (other_file.code, "the file has another env" in other_file.err) == (1, True)
    app.write(env={"HELLO_VERSION": "2"}, **limits)
    if app.server.site.name == "process":  # an image has no source
        (app.directory / "news.txt").write_text("another source")
        other_source = app.deploy("--plan", str(file))
        assert (other_source.code, "the source has changed" in other_source.err) == (1, True)
        (app.directory / "news.txt").unlink()
    done = app.deploy("--plan", str(file), "--json").json
    assert (done["phase"], done["to_release"]) == ("succeeded", plan["to_release"])
    assert by_replica(done["steps"]) == by_replica(plan["steps"])


@pytest.mark.feature("J7")
def test_rolling_or_full_and_what_it_means(app: Hello) -> None:
    rolling = app.server.ok("plan", "restart", app.name).out
    assert f"{app.name} restart, release" in rolling
    assert ": rolling, about " in rolling
    assert "users notice nothing: at least 2 of 2 replicas serve throughout" in rolling
    full = app.server.ok("plan", "restart", app.name, "--simultaneous").out
    assert ": full, about " in full
    assert "nobody is served for about " in full


@pytest.mark.feature("R3")
def test_what_is_open_now_is_shown(app: Hello) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA=="}
    with (
        closing(http.client.HTTPConnection("127.0.0.1", app.server.running.http_port, timeout=30)) as download,
        closing(http.client.HTTPConnection("127.0.0.1", app.server.running.http_port, timeout=30)) as socket,
    ):
        download.request("GET", "/sse", headers={"Host": app.host})
        streaming = download.getresponse()
        socket.request("GET", "/ws", headers={"Host": app.host, **upgrade})
        assert (streaming.status, socket.getresponse().status) == (200, 101)
        found = planned(app, "restart", app.name)["open"]
        assert [entry["open"] for entry in found] == [1, 1]
        assert sum(entry["connections"]["answers"] for entry in found) == 1
        assert sum(entry["connections"]["websockets"] for entry in found) == 1
        told = app.server.ok("plan", "restart", app.name).out
        assert "1 (1 answer under way)" in told
        assert "1 (1 WebSocket)" in told
        assert "what is still open 30.0 s after its replica's turn began is cut" in told


@pytest.mark.feature("R3")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["restart", "nobody"], 1, "there is no app 'nobody'"),
        (["rollback", "APP", "99"], 1, "has no release 99"),
        (["limits", "APP", "--memory", "90000GiB", "--order", "start-first"], 3, "does not fit on this machine"),
        (["restart", "APP", "--order", "start-first", "--simultaneous"], 2, "contradicts"),
    ],
)
def test_a_plan_of_what_cannot_be_is_refused_as_the_change_would_be(
    app: Hello, words: list[str], code: int, said: str
) -> None:
    answer = app.server.rota("plan", *(app.name if word == "APP" else word for word in words))
    assert (answer.code, answer.out) == (code, "")
    assert said in answer.err
