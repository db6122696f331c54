"""Replicas that fall ill or are killed on a real server: out of rotation, replaced or left alone, and said why."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from tests.conftest import FULL
from tests.e2e import moods
from tests.e2e.conftest import EXAMPLE, new_hello
from tests.e2e.running import Hello, Server, until
from tests.e2e.scenario import same_on_both
from tests.e2e.site import Site

from rota.testing.docker import DockerEngine

# In containers tests/contract/test_exec.py shows the same in less time.
ON_PROCESSES = [] if FULL else [pytest.mark.runtime("process")]
CHECK = {"interval": "100ms", "fast_interval": "100ms"}


@pytest.fixture(scope="module")
def app(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    hello = new_hello(server, tmp_path_factory.mktemp("repair") / "hello")
    yield hello.deployed(replicas=3, health_check=CHECK, repair={"unhealthy_grace": "1s"}, stop_grace_period="1s")
    server.ok("remove", hello.name, "--yes", "--supersede")


@pytest.fixture(scope="module")
def asked_by_command(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    hello = new_hello(server, tmp_path_factory.mktemp("command") / "hello")
    yield hello.deployed(health_check=moods.CHECK, repair={"unhealthy_grace": "10m"}, stop_grace_period="1s")
    server.ok("remove", hello.name, "--yes", "--supersede")


def ready(app: Hello) -> int:
    return sum(replica["phase"] == "ready" for replica in app.replicas)


def out_of_rotation(app: Hello) -> dict[str, Any]:
    """The first replica once it gets no requests and why is known, all of one reading: a verdict is there before its
    step is done, and HAProxy's own checks may be the first to see it."""
    read: list[dict[str, Any]] = []

    def is_out() -> bool:
        read[:] = app.replicas[:1]
        return bool(read[0]["phase"] == "warming" and read[0]["reason"])

    until(is_out)
    return read[0]


def tell(replica: dict[str, Any], path: str) -> None:
    request = urllib.request.Request(f"http://{replica['address']}{path}", method="POST")
    with urllib.request.urlopen(request, timeout=5):
        pass


@pytest.mark.feature("H3", "W1")
def test_one_that_stays_unhealthy_is_replaced_and_nobody_notices(app: Hello) -> None:
    sick = app.replicas[0]
    tell(sick, "/health/off")
    suspended = out_of_rotation(app)
    assert suspended["id"] == sick["id"]
    assert "(HTTP 503), gets no requests; is replaced after 1.0 s" in suspended["reason"]
    until(lambda: sick["id"] not in app.ids and ready(app) == 3)
    assert {app.request().status for _ in range(9)} == {200}
    events = [event for event in app.server.api(f"events?app={app.name}")["events"] if event["replica"] == sick["id"]]
    steps = ["NoteHealth", "FailReplica", "DisableServer", "StopReplica", "RemoveServer", "RemoveReplica"]
    assert [event["step"] for event in events if event["step"] in steps] == steps
    said = app.server.ok("events", "--app", app.name).out
    assert f"{sick['id']} health: its health check fails, so it gets no requests" in said
    why = r"failed: its health check has failed for \d+\.\d s \(repair\.unhealthy_grace\); last: HTTP 503"
    assert re.search(f"{sick['id']} {why}", said), said


@pytest.mark.feature("H3", "W5", "R9")
@pytest.mark.parametrize(
    ("mood", "said"),
    [
        ("fails", "the check's command ended with exit code 1: no database"),
        pytest.param("hangs", "the check's command did not end within 1 s and was killed", marks=ON_PROCESSES),
        pytest.param("floods", "the check's command did not end within 1 s and was killed: yyy", marks=ON_PROCESSES),
    ],
)
def test_one_whose_check_fails_hangs_or_floods_leaves_rotation_and_comes_back(
    mood: str, said: str, asked_by_command: Hello
) -> None:
    app = asked_by_command
    sick, well = app.replicas
    moods.set_mood(app.pid(sick["id"]), mood)
    suspended = out_of_rotation(app)
    assert said in suspended["reason"]
    assert "gets no requests" in suspended["reason"]
    assert {(reply.status, reply.replica) for reply in (app.request() for _ in range(6))} == {(200, well["id"])}
    moods.set_mood(app.pid(sick["id"]), "")
    until(lambda: ready(app) == 2)
    assert app.ids == [sick["id"], well["id"]]
    until(lambda: {app.request().replica for _ in range(6)} == {sick["id"], well["id"]})


@pytest.mark.feature("H3", "W5")
@pytest.mark.runtime("docker")
def test_an_images_own_check_is_made_and_can_be_overridden(
    hello: Hello, request: pytest.FixtureRequest, site: Site
) -> None:
    engine: DockerEngine = request.getfixturevalue("docker_engine")
    fails_with_a_mood = json.dumps(["python3", "-c", "import os, sys; sys.exit(os.path.exists('/tmp/mood'))"])
    engine.import_hello(EXAMPLE, "hello-checked:1", f"HEALTHCHECK --interval=1h --retries=9 CMD {fails_with_a_mood}")
    hello.deployed(
        image={"repository": "hello-checked", "tag": "1", "pull": "never"},
        health_check_path=None,
        health_check={"interval": "200ms", "fall": 2},
        repair={"unhealthy_grace": "10m"},
    )
    sick, _ = hello.replicas
    moods.set_mood(hello.pid(sick["id"]), "")
    until(lambda: "the check's command ended with exit code 1" in hello.replicas[0]["reason"])


@pytest.mark.feature("H3", "S5")
def test_with_all_unhealthy_none_is_replaced_and_it_is_said(app: Hello) -> None:
    before = app.replicas
    for replica in before:
        tell(replica, "/health/off")
    until(lambda: "repair: no replica serves" in app.server.ok("events", "--app", app.name).out)
    assert app.ids == [replica["id"] for replica in before]
    assert all("so are all others" in replica["reason"] for replica in app.replicas)
    for replica in before:
        tell(replica, "/health/on")
    until(lambda: ready(app) == 3)
    assert [(entry["id"], entry["started_at"]) for entry in app.replicas] == [
        (entry["id"], entry["started_at"]) for entry in before
    ]


@same_on_both
@pytest.mark.feature("W1", "W2")
def test_replicas_killed_one_after_the_other_are_back_at_once(app: Hello) -> None:
    """The short form of five minutes of it: no slot ends in a backoff."""
    for _ in range(8):
        victim = next(replica["id"] for replica in app.replicas if replica["phase"] == "ready")
        app.kill(victim)
        until(lambda victim=victim: victim not in app.ids)
        assert app.request().status == 200
    until(lambda: ready(app) == 3)
    events = app.server.api(f"events?app={app.name}")["events"]
    reasons = [event["reason"] for event in events if event["kind"] == "failure"]
    assert sum("signal 9" in reason for reason in reasons) == 8
