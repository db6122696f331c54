"""The commands on a real server with real replicas behind HAProxy: what they change, print and return."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import new_hello
from tests.e2e.running import Hello, Server, until
from tests.e2e.scenario import same_on_both

from rota.adapters.cgroupfiles import directories


@pytest.fixture(scope="module")
def app(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    """Deployed once with three replicas; each test leaves it running with release and count as it likes."""
    hello = new_hello(server, tmp_path_factory.mktemp("commands") / "hello")
    yield hello.deployed(replicas=3, stop_grace_period="1s")
    server.ok("remove", hello.name, "--yes", "--supersede")


def deploy(app: Hello, **changes: object) -> dict[str, object]:
    """The rollout, whatever its end."""
    app.write(**{"replicas": 3, "stop_grace_period": "1s", **changes})  # type: ignore[arg-type]
    rollout: dict[str, object] = app.deploy("--json").json
    return rollout


@pytest.mark.feature("H1", "S2")
def test_requests_are_shared_about_equally(app: Hello) -> None:
    app.server.ok("scale", f"{app.name}=3")
    served = Counter(app.request().replica for _ in range(60))
    assert set(served) == set(app.ids)
    assert max(served.values()) - min(served.values()) <= 2
    for replica in app.replicas:
        assert replica["address"].endswith(":" + app.environment(replica["id"])["PORT"])


@pytest.mark.feature("S2")
def test_a_replica_is_told_who_it_is_and_nothing_of_the_server(app: Hello) -> None:
    replica = app.replicas[0]
    found = app.environment(replica["id"])
    assert found["ROTA_APP"] == app.name
    assert found["ROTA_REPLICA"] == replica["id"]
    assert found["ROTA_SLOT"] == str(replica["slot"])
    assert found["ROTA_RELEASE"] == str(replica["release"])
    assert {name for name in found if not name.startswith("ROTA_")} <= app.server.site.variables | {"PORT"}
    assert not {"ROTA_TOKEN", "ROTA_SERVER", "ROTA_DATA_DIR"} & set(found)


def test_a_command_runs_in_a_replica_and_ends_at_its_time(app: Hello) -> None:
    told = "import os, sys; print(os.environ['ROTA_REPLICA'], os.getuid()); sys.exit(3)"
    for replica in app.ids[:2]:
        ran = app.server.rota("exec", app.name, "--replica", replica, "--", "python3", "-c", told)
        assert (ran.code, ran.out) == (3, f"{replica} {Path(f'/proc/{app.pid(replica)}').stat().st_uid}\n")
    hangs = "import time; print('begun', flush=True); time.sleep(1000)"
    ran = app.server.rota("exec", app.name, "--timeout", "1s", "--", "python3", "-c", hangs)
    assert (ran.code, ran.out) == (6, "begun\n")
    assert "did not end within 1s" in ran.err
    unknown = app.server.rota("exec", app.name, "--replica", "nobody-1", "--", "true")
    assert (unknown.code, "has no replica 'nobody-1'" in unknown.err) == (1, True)


@pytest.mark.feature("W3")
def test_scale_up_and_down_and_the_lists_agree(app: Hello) -> None:
    for count in (4, 2, 3):
        rollout = app.server.ok("scale", f"{app.name}={count}", "--json").json
        assert (rollout["kind"], rollout["phase"], rollout["receipt"]["failed"]) == ("scale", "succeeded", 0)
        assert len(app.server.ok("ps", app.name, "--json").json["replicas"]) == count
        listed = app.server.ok("ls", "--json").json["apps"]
        mine = next(entry for entry in listed if entry["name"] == app.name)
        assert (mine["ready"], mine["replicas_wanted"]) == (count, count)
    assert f"{app.name}  running  3/3" in app.server.ok("ls").out


@pytest.mark.feature("W6")
def test_a_scale_during_a_rollout_waits_for_its_own_replicas_alone(app: Hello) -> None:
    """The rollout waits for five minutes after its first replica."""
    rollout = app.server.ok("restart", app.name, "--delay", "300s", "--detach").out.strip()
    for count, has in ((4, "4 replicas"), (3, "3 replicas")):
        said = app.server.ok("scale", f"{app.name}={count}").out
        assert said == f"{app.name} has {has}; {rollout} restart goes on\n"
        assert len({entry["slot"] for entry in app.replicas if entry["phase"] == "ready"}) == count
    app.server.ok("rollout", "set", rollout, "--delay", "0s")
    assert app.server.ok("rollout", "watch", rollout, "--json").json["receipt"]["failed"] == 0


def test_the_shapes_that_scripts_rely_on(app: Hello) -> None:
    shown = app.server.ok("ps", app.name, "--json").json
    assert shown["app"] == app.name
    keys = "id slot release generation node phase reason address started_at ready_since restarts"
    assert set(keys.split()) <= set(shown["replicas"][0])
    rollout = app.server.ok("rollout", "show", app.name, "--json").json
    keys = "id app kind phase reason from_release to_release policy started_at finished_at steps receipt"
    assert set(keys.split()) <= set(rollout)
    assert {"at", "step", "replica", "reason"} <= set(rollout["steps"][0])
    keys = "requests retried redispatched cut failed app_errors by_release complete gaps"
    assert set(keys.split()) <= set(rollout["receipt"])
    assert rollout["started_at"].endswith("Z")
    newest = app.server.ok("rollout", "ls", "--app", app.name, "--json").json["rollouts"]
    numbers = [int(entry["id"].rpartition(".")[2]) for entry in newest]
    assert numbers == sorted(numbers, reverse=True)
    assert app.server.ok("releases", app.name, "--json").json["releases"][0]["number"] >= 1


@pytest.mark.feature("H7", "V1")
def test_status_and_logs_show_every_replica(app: Hello) -> None:
    ids = app.ids
    status = app.server.ok("status", app.name).out
    assert all(replica in status for replica in ids)
    assert f"http://{app.host}:{app.server.running.http_port}" in status
    merged = app.server.ok("logs", app.name, "--all-containers").out.splitlines()
    assert {line.partition(" | ")[0] for line in merged} == set(ids)
    one = app.server.ok("logs", app.name, "--replica", ids[1], "--tail", "1").out
    assert one.startswith(f"{ids[1]} | hello 1 listens on ")
    assert len(one.splitlines()) == 1
    lines = app.server.ok("logs", app.name, "--all-containers", "--json").json["lines"]
    assert {line["replica"] for line in lines} == set(ids)


def test_followed_logs_go_on_with_a_replica_that_comes_later(app: Hello) -> None:
    following = app.server.begin("logs", app.name, "--all-containers", "-f", "--tail", "1")
    try:
        before = {following.line().partition(" | ")[0] for _ in range(3)}
        app.server.ok("scale", f"{app.name}=4")
        newest = max(app.ids, key=lambda id: int(id.rpartition("-")[2]))
        assert newest not in before
        assert following.line().startswith(f"{newest} | hello 1 listens on ")
    finally:
        following.end()
        app.server.ok("scale", f"{app.name}=3")


@pytest.mark.feature("H3")
def test_an_unhealthy_replica_leaves_rotation_and_comes_back(app: Hello) -> None:
    sick = next(replica for replica in app.replicas if replica["phase"] == "ready")
    _tell(sick["address"], "/health/off")
    until(lambda: sick["id"] not in {app.request().replica for _ in range(6)}, 15)
    assert {app.request().status for _ in range(10)} == {200}
    _tell(sick["address"], "/health/on")
    until(lambda: sick["id"] in {app.request().replica for _ in range(6)}, 15)
    assert sick["id"] in app.ids


def _tell(address: str, path: str) -> None:
    import urllib.request

    with urllib.request.urlopen(urllib.request.Request(f"http://{address}{path}", method="POST"), timeout=5):
        pass


@pytest.mark.feature("W1")
def test_a_killed_replica_is_replaced_by_a_new_one(app: Hello) -> None:
    lost = app.ids[0]
    app.kill(lost)
    until(lambda: lost not in app.ids and sum(entry["phase"] == "ready" for entry in app.replicas) == 3)
    assert {app.request().status for _ in range(9)} == {200}


@pytest.mark.feature("R2")
def test_a_restart_hands_off_in_order_and_says_when(app: Hello) -> None:
    before = set(app.ids)
    rollout = app.server.ok("restart", app.name, "--json").json
    assert not before & set(app.ids)
    for replica in before:
        taken = [step["step"] for step in rollout["steps"] if step["replica"] == replica]
        order = ["DisableServer", "StopReplica", "RemoveReplica"]
        assert [step for step in taken if step in order] == order, taken
    assert all(step["at"] for step in rollout["steps"])
    events = app.server.ok("events", "--app", app.name, "--json").json["events"]
    assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
    assert events[-1]["phase"] == "succeeded"


def test_in_place_keeps_replicas_and_counts_their_restarts(app: Hello) -> None:
    before = {entry["id"]: entry["restarts"] for entry in app.replicas}
    app.server.ok("restart", app.name, "--order", "in-place")
    assert {entry["id"]: entry["restarts"] for entry in app.replicas} == {id: n + 1 for id, n in before.items()}


@pytest.mark.feature("V8")
@pytest.mark.parametrize(
    ("flags", "memory", "cpus"),
    [
        (["--memory", "256MiB", "--cpus", "0.25"], 256 * 2**20, 0.25),
        (["--cloudlets", "1"], 128 * 2**20, 0.4),
        (["--memory", "none", "--cpus", "none"], None, None),
    ],
)
def test_limits_hold_in_the_kernel(
    app: Hello, component: Callable[[str], Path], flags: list[str], memory: int | None, cpus: float | None
) -> None:
    component("cgroups")
    before = set(app.ids)
    app.server.ok("limits", app.name, *flags)
    assert set(app.ids) == before  # live, without a new replica
    for replica in app.replicas:
        assert (replica["limits"]["memory"], replica["limits"]["cpus"]) == (memory, cpus)
        assert _kernel_limits(app, replica["id"]) == (memory, cpus)


def _kernel_limits(app: Hello, replica: str) -> tuple[int | None, float | None]:
    """What the control groups of the process say, of version 1 or 2."""
    memory: int | None = None
    cpus: float | None = None
    for directory in map(Path, directories(Path(f"/proc/{app.pid(replica)}/cgroup"))):
        for name in ("memory.limit_in_bytes", "memory.max"):
            if (directory / name).exists():
                text = (directory / name).read_text().strip()
                memory = None if text == "max" or int(text) > 2**60 else int(text)
        if (directory / "cpu.cfs_quota_us").exists():
            quota = int((directory / "cpu.cfs_quota_us").read_text())
            cpus = None if quota < 0 else quota / int((directory / "cpu.cfs_period_us").read_text())
        if (directory / "cpu.max").exists():
            share, period = (directory / "cpu.max").read_text().split()
            cpus = None if share == "max" else int(share) / int(period)
        assert app.pid(replica) in map(int, (directory / "cgroup.procs").read_text().split())
    return memory, cpus


@pytest.mark.feature("R8", "S3", "S4")
def test_a_version_that_never_listens_times_out_and_the_old_one_serves(app: Hello) -> None:
    app.write(replicas=3, stop_grace_period="1s", boot_timeout="500ms", env={"HELLO_NEVER_LISTEN": "1"})
    serving = app.ids
    answer = app.deploy()
    assert answer.code == 6, answer
    assert "timeout-error" in answer.out
    assert "boot_timeout" in answer.out
    steps = app.server.rota("rollout", "show", app.name, "--json").json["steps"]
    assert [step["step"] for step in steps].count("StartReplica") == 1
    assert (app.ids, app.request().status) == (serving, 200)


@pytest.mark.feature("R8")
@pytest.mark.parametrize(
    ("env", "reason", "said"),
    [
        ({"HELLO_CRASH_AFTER": "0"}, "crashed", "  | hello: the environment variable DATABASE_URL is missing"),
        ({"HELLO_UNHEALTHY": "1"}, "unhealthy", "HTTP 503"),
    ],
)
def test_a_bad_version_goes_back_by_itself(app: Hello, env: dict[str, str], reason: str, said: str) -> None:
    app.write(replicas=3, stop_grace_period="1s", boot_timeout="3s", env=env)
    serving = app.ids
    answer = app.deploy()
    assert answer.code == 5, answer
    assert reason in answer.out
    assert said in answer.out
    assert "Traceback" not in answer.err
    assert (app.ids, app.request().status) == (serving, 200)


@pytest.mark.feature("H2")
def test_a_version_that_crashes_within_min_ready_seconds_gets_no_request(app: Hello) -> None:
    serving = set(app.ids)
    app.write(replicas=3, min_ready_seconds=3, env={"HELLO_CRASH_AFTER": "1", "HELLO_ACCESS_LOG": "1"})
    deploying = app.server.begin("deploy", cwd=app.directory)
    asked: set[str | None] = set()
    try:
        until(lambda: asked.add(app.request().replica) or set(app.ids) - serving != set())
        until(lambda: asked.add(app.request().replica) or set(app.ids) == serving)
    finally:
        code = deploying.answer().code
    assert code == 5
    assert asked <= serving


@pytest.mark.feature("S7")
def test_a_replica_that_ignores_sigterm_is_killed_after_its_grace(app: Hello) -> None:
    deploy(app, env={"HELLO_IGNORE_TERM": "1"})
    stubborn = app.ids[0]
    rollout = app.server.ok("scale", f"{app.name}=1", "--json").json
    stopped = {step["replica"]: step["at"] for step in rollout["steps"] if step["step"] == "StopReplica"}
    killed = {step["replica"]: step["at"] for step in rollout["steps"] if step["step"] == "KillReplica"}
    assert len(stopped) == 2
    assert set(killed) == set(stopped)
    for replica, at in killed.items():
        assert 0.9 <= _seconds(at) - _seconds(stopped[replica]) <= 3
    assert stubborn in app.ids


def _seconds(moment: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(moment).timestamp()


@same_on_both
def test_rollback_goes_to_the_previous_and_to_a_named_release(app: Hello) -> None:
    first = deploy(app, env={"HELLO_VERSION": "a"})["to_release"]
    second = deploy(app, env={"HELLO_VERSION": "b"})["to_release"]
    assert "version b" in app.request().body
    back = app.server.ok("rollback", app.name, "--json").json
    assert back["to_release"] == first
    assert "version a" in app.request().body
    app.server.ok("rollback", app.name, str(second))
    assert "version b" in app.request().body
    listed = app.server.ok("releases", app.name, "--json").json["releases"]
    assert [entry["number"] for entry in listed if entry["current"]] == [second]


@pytest.mark.feature("V1")
def test_redeploy_makes_every_replica_anew(app: Hello) -> None:
    before = set(app.ids)
    rollout = app.server.ok("redeploy", app.name, "--json").json
    assert (rollout["phase"], rollout["from_release"]) == ("succeeded", rollout["to_release"])
    assert not before & set(app.ids)


@pytest.mark.feature("H8")
@pytest.mark.parametrize("flags", [[], ["--remove-containers"]])
def test_stop_and_start(app: Hello, flags: list[str]) -> None:
    app.server.ok("stop", app.name, *flags)
    assert [entry for entry in app.replicas if entry["phase"] == "ready"] == []
    assert app.request().status == 503
    assert f"{app.name}  stopped" in app.server.ok("ls").out
    refusal = app.server.rota("restart", app.name)
    assert refusal.code == 1
    assert f"rota start {app.name} starts it" in refusal.err
    app.server.ok("start", app.name)
    assert app.request().status == 200


def test_a_detached_rollout_can_be_watched(app: Hello) -> None:
    id = app.server.ok("restart", app.name, "--detach").out.strip()
    watched = app.server.rota("rollout", "watch", id)
    assert watched.code == 0
    assert f"{id} restart succeeded" in watched.out
    assert "0 failed of" in watched.out


@same_on_both
def test_after_ctrl_c_a_rollout_goes_on(app: Hello) -> None:
    waiting = app.server.begin("restart", app.name, "--delay", "300s")
    assert " progressing\n" in waiting.said()
    waiting.interrupt()
    left = waiting.answer()
    id = app.server.api(f"apps/{app.name}")["rollout"]["id"]
    assert (left.code, left.out) == (130, "")
    assert left.err.endswith(f"{id} goes on; come back with: rota rollout watch {id}\n")
    app.server.ok("rollout", "set", id, "--delay", "0")
    assert f"{id} restart succeeded" in app.server.ok("rollout", "watch", id).out


@pytest.mark.runtime("process")  # the file that init writes is of a command
def test_init_writes_what_deploys_and_schema_and_validate_need_no_server(app: Hello, tmp_path: Path) -> None:
    nowhere = {"ROTA_SERVER": "http://127.0.0.1:1"}
    directory = tmp_path / "first-app"
    directory.mkdir()
    (directory / "app.py").write_bytes((app.directory / "app.py").read_bytes())
    assert app.server.rota("init", cwd=directory, **nowhere).code == 0
    assert app.server.rota("validate", cwd=directory, **nowhere).out == "rota.yaml: ok\n"
    assert app.server.rota("init", cwd=directory).code == 2
    schema = json.loads(app.server.rota("schema", **nowhere).out)
    assert "replicas" in schema["properties"]
    app.server.ok("deploy", cwd=directory)
    try:
        assert app.server.request("first-app.localhost").status == 200
    finally:
        app.server.ok("remove", "first-app", "--yes")
    assert "first-app" not in app.server.ok("ls").out
    assert app.server.request("first-app.localhost").status in (404, 503)


def test_shutdown_that_keeps_apps_and_a_server_that_takes_over(server: Server, app: Hello) -> None:
    app.server.ok("scale", f"{app.name}=3")
    before = {(entry["id"], entry["started_at"]) for entry in app.replicas}
    server.ok("shutdown", "--keep-apps")
    assert server.ended() == 0
    assert {app.request().status for _ in range(6)} == {200}
    server.start()
    assert {(entry["id"], entry["started_at"]) for entry in app.replicas} == before
    assert all(os.path.exists(f"/proc/{app.pid(id)}") for id, _ in before)
    assert app.request().status == 200
