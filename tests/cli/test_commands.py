"""What each command asks of the server and prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.scripted_engine import RECEIPT, ScriptedEngine, Served
from tests.cli.rota_command import RotaCommand

from rota.cli import wording
from rota.core.errand import Errand

MIB = 2**20


@pytest.mark.parametrize(
    ("argv", "kind", "fields"),
    [
        (["restart", "hello", "--simultaneous", "--supersede"], "restart", {"supersede": True}),
        (["redeploy", "hello"], "redeploy", {}),
        (["rollback", "hello"], "rollback", {"release": None}),
        (["rollback", "hello", "3"], "rollback", {"release": 3}),
        (["scale", "hello=5"], "scale", {"replicas": 5}),
        (["limits", "hello", "--memory", "256MiB", "--cpus", "none"], "limits", {"memory": 256 * MIB, "cpus": None}),
        (["limits", "hello", "--cloudlets", "2"], "limits", {"cloudlets": 2}),
        (["stop", "hello"], "stop", {"remove": False}),
        (["stop", "hello", "--remove-containers"], "stop", {"remove": True}),
        (["start", "hello"], "start", {}),
        (["remove", "hello", "--yes"], "remove", {}),
    ],
)
def test_an_order(
    rota: RotaCommand, engine: ScriptedEngine, argv: list[str], kind: str, fields: dict[str, Any]
) -> None:
    ended = rota(*argv)
    assert ended.code == 0
    assert ended.out.startswith(f"hello.1 {kind} succeeded in 4.2 s\n0 failed of 18,412 requests")
    [(app, order)] = engine.orders
    assert (app, order.kind) == ("hello", kind)
    assert {name: getattr(order, name) for name in fields} == fields


def test_the_policy_flags_reach_the_server(rota: RotaCommand, engine: ScriptedEngine) -> None:
    rota(
        *["restart", "hello", "--sequential", "--parallelism", "25%", "--delay", "10s", "--order", "stop-first"],
        *["--min-available", "2", "--failure-action", "pause", "--remove-from-dns"],
        *["--monitor", "5s", "--max-failure-ratio", "0.25", "--progress-deadline", "2m"],
    )
    [(_, order)] = engine.orders
    assert order.policy.model_dump(mode="json", exclude_none=True) == {  # type: ignore[union-attr]
        "mode": "sequential",
        "parallelism": "25%",
        "delay": 10.0,
        "order": "stop-first",
        "min_available": 2,
        "failure_action": "pause",
        "monitor": 5.0,
        "max_failure_ratio": 0.25,
        "progress_deadline": 120.0,
        "remove_from_dns": True,
    }


def test_a_command_in_a_replica_passes_on_its_output_and_its_code(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.came_of_it |= {"exit_code": 3, "output": "no newline"}
    ended = rota("exec", "hello", "--replica", "hello-2", "--", "ls", "-l", "--json")
    assert (ended.code, ended.out, ended.err) == (3, "no newline", "")
    assert engine.errands[0] == ("hello", Errand(command=("ls", "-l", "--json"), replica="hello-2"))
    rota("exec", "hello", "ls", "-l")  # as people write it
    assert engine.errands[1][1].command == ("ls", "-l")
    assert json.loads(rota("exec", "--json", "hello", "--", "ls").out)["exit_code"] == 3


def test_a_command_that_was_killed_or_wrote_too_much_says_so(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.came_of_it |= {"exit_code": None, "timed_out": True, "cut": True}
    ended = rota("exec", "--timeout", "2s", "hello", "--", "sleep", "9")
    assert ended.code == 6
    assert "its output was longer: this is the end of it" in ended.err
    assert "the command did not end within 2s in hello-1 and was killed" in ended.err
    refused = rota("exec", "--timeout", "soon", "hello", "--", "sleep", "9")
    assert (refused.code, refused.err.count("--timeout: 0.1 s to 1 h is allowed")) == (2, 1)


def test_dns_is_listed_with_its_troubles(rota: RotaCommand) -> None:
    shown = rota("dns", "ls")
    assert shown.code == 0
    assert shown.out.splitlines()[1].split() == [
        *["hello", "hello-1", "internal", "published", "127.0.0.1:20001", "hello.rota.internal"]
    ]
    assert "example.org (hello): no answer" in shown.out
    assert json.loads(rota("dns", "ls", "--json").out)["views"][1]["required"] is True
    assert "DNS" in rota("ps", "hello").out.splitlines()[0]


def test_each_change_of_a_record_is_a_line(rota: RotaCommand, engine: ScriptedEngine) -> None:
    for flags, change in (
        ((), "hello-1 in internal: published, now leaving"),
        (("--json",), '"replica": "hello-1", "view": "internal", "was": "published", "state": "leaving"}'),
    ):
        engine.dns_state = "published"
        watching = rota.start("dns", "ls", "--watch", *flags)
        assert watching.stdout is not None
        assert any("example.org" in line for line in iter(watching.stdout.readline, ""))
        engine.dns_state = "leaving"
        assert change in watching.stdout.readline()
        watching.terminate()
        watching.communicate(timeout=20)


def test_the_records_may_be_kept_by_flag(rota: RotaCommand, engine: ScriptedEngine) -> None:
    rota("restart", "hello", "--keep-in-dns")
    [(_, order)] = engine.orders
    assert order.policy.remove_from_dns is False  # type: ignore[union-attr]


def test_a_deploy_packs_and_uploads_the_files_directory_once(
    rota: RotaCommand, engine: ScriptedEngine, app: Path
) -> None:
    first = rota("deploy", "-f", str(app / "rota.yaml"))
    assert first.code == 0
    assert "uploading 1 file," in first.err
    [digest] = engine.sources.sizes
    second = rota("deploy", "--json")
    assert "uploading" not in second.err
    assert second.json["receipt"] == RECEIPT
    assert [(order.spec.name, order.source) for _, order in engine.orders] == [("hello", digest)] * 2  # type: ignore[union-attr]


def test_deploy_judges_its_flags_before_it_uploads(rota: RotaCommand, engine: ScriptedEngine, app: Path) -> None:
    ended = rota("deploy", "--delay", "301")
    assert ended.code == 2
    assert "0 to 300 seconds, not 301" in ended.err
    assert engine.sources.sizes == {}


@pytest.mark.parametrize(
    ("argv", "keys"),
    [
        (["ls"], {"apps"}),
        (["ps"], {"app", "replicas"}),
        (["stats"], {"apps"}),
        (["stats", "hello"], {"app", "replicas", "backends"}),
        (["ps", "hello"], {"app", "replicas"}),
        (["status", "hello"], {"name", "replicas", "rollout"}),
        (["status"], {"apps"}),
        (["releases", "hello"], {"app", "releases"}),
        (["logs", "hello"], {"app", "lines"}),
        (["events"], {"events"}),
        (["rollout", "ls"], {"rollouts"}),
        (["rollout", "show"], {"id", "steps", "receipt"}),
        (["rollout", "show", "hello"], {"id", "steps", "receipt"}),
        (["rollout", "show", "hello.1"], {"id", "steps", "receipt"}),
        (["rollout", "watch", "hello.1"], {"id", "steps", "receipt"}),
        (["scale", "hello=2", "hello=3"], {"rollouts"}),
        (["restart", "hello", "--detach"], {"id", "phase"}),
    ],
)
def test_json_is_all_of_stdout(rota: RotaCommand, argv: list[str], keys: set[str]) -> None:
    rota("restart", "hello")
    ended = rota(*argv, "--json")
    assert ended.code == 0
    assert keys <= set(ended.json)


def test_a_history_that_was_cut_says_so(rota: RotaCommand, engine: ScriptedEngine) -> None:
    rota("restart", "hello")
    assert "left out" not in rota("rollout", "show").err
    engine.steps_cut = True
    assert "earlier steps are left out" in rota("rollout", "show").err


@pytest.mark.parametrize("limit", [0, 1, 3, 200])
def test_events_are_as_many_lines_as_were_asked_for(rota: RotaCommand, engine: ScriptedEngine, limit: int) -> None:
    """Most events have no line for people."""
    app = {"app": "hello", "id": "hello.1"}
    for number in range(40):
        engine.record(app, "step", step="EnableServer", replica=f"hello-{number}", reason="ready")
        for _ in range(number % 9):
            engine.record(app, "step", step="TakeSlot")
    every = rota("events", "--limit", "10000").out.splitlines()
    assert len(every) == 40
    assert rota("events", "--limit", str(limit)).out.splitlines() == (every[-limit:] if limit else [])


def test_tables_have_a_line_for_each_thing(rota: RotaCommand) -> None:
    assert [line.split()[:4] for line in rota("ps", "hello").out.splitlines()] == [
        ["REPLICA", "SLOT", "RELEASE", "PHASE"],
        ["hello-1", "1", "2", "ready"],
        ["hello-2", "2", "2", "ready"],
    ]
    assert "hello  running  2/2" in rota("ls").out
    assert "256 MiB, 0.5 CPU (not enforced)" in rota("ps", "hello").out


def test_status_shows_the_app_its_replicas_and_the_last_receipt(rota: RotaCommand) -> None:
    rota("restart", "hello")
    out = rota("status").out
    for text in ("hello: running, 2 of 2 ready", "http://hello.localhost:8080", "hello-2", "0 failed of 18,412"):
        assert text in out


def test_logs_of_the_first_replica_or_of_all(rota: RotaCommand) -> None:
    first = rota("logs", "hello")
    assert first.out == "hello-1 | listening\n"
    assert first.err == "showing hello-1, one of 2 replicas; all of them: --all-containers\n"
    assert rota("logs", "hello", "--all-containers").out == "hello-1 | listening\nhello-2 | listening, too\n"
    assert rota("logs", "hello", "--replica", "hello-2").out == "hello-2 | listening, too\n"


def test_the_requests_of_an_app(rota: RotaCommand) -> None:
    shown = rota("logs", "hello", "--access", "--tail", "1").out
    assert shown.endswith("192.0.2.1 GET hello.localhost/b 200 3/5 ms hello-1\n")
    assert [entry["path"] for entry in rota("logs", "hello", "--access", "--json").json["requests"]] == ["/a", "/b"]
    followed = rota("logs", "hello", "--access", "-f", "--json").out.splitlines()
    assert [json.loads(line)["path"] for line in followed] == ["/a", "/b"]


def test_following_shows_lines_as_they_come(rota: RotaCommand) -> None:
    following = rota.start("logs", "hello", "--all-containers", "-f")
    assert following.stdout is not None
    assert [following.stdout.readline() for _ in range(2)] == ["hello-1 | listening\n", "hello-2 | listening, too\n"]
    assert following.poll() is None


def test_a_reader_that_goes_away_is_no_error(rota: RotaCommand) -> None:
    process = rota.start("schema")
    assert process.stdout is not None
    process.stdout.close()
    process.wait(30)
    assert process.stderr is not None
    assert process.stderr.read() == ""
    process.stdout = None


def test_maintenance_says_what_is_in_force(rota: RotaCommand) -> None:
    assert rota("maintenance", "on", "hello").out == "hello: maintenance is on\n"
    assert rota("maintenance", "off", "hello").out == "hello: maintenance is off\n"
    assert json.loads(rota("maintenance", "on", "hello", "--json").out)["maintenance"] is True


def test_an_error_page_is_read_from_below_the_file_s_directory(
    rota: RotaCommand, engine: ScriptedEngine, app: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = app / "rota.yaml"
    file.write_text(file.read_text() + "error_pages: {503: soon.html}\n")
    missing = rota("deploy", "-f", file)
    assert missing.code == 3
    assert re.search(r"rota\.yaml:\d+:20: error_pages: soon\.html cannot be used: No such file", missing.err)
    secret = tmp_path_factory.mktemp("elsewhere") / "secret"
    secret.write_text("x")
    (app / "soon.html").symlink_to(secret)
    assert "it is a link that leads out of" in rota("deploy", "-f", file).err
    (app / "soon.html").unlink()
    (app / "soon.html").write_text("<h1>Soon</h1>")
    assert rota("deploy", "-f", file).code == 0
    (page,) = engine.orders[-1][1].spec.error_pages  # type: ignore[union-attr]
    assert (page.status, page.text) == (503, "<h1>Soon</h1>")


def test_steering(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = True
    rota("restart", "hello", "--detach")
    assert rota("rollout", "pause").out == "hello.1 restart paused\n"
    assert rota("rollout", "resume", "hello").out == "hello.1 restart progressing\n"
    assert rota("rollout", "skip", "--slot", "3").out == "hello.1 restart leaves out slot 3\n"
    paced = rota("rollout", "set", "hello", "--delay", "5s", "--parallelism", "2")
    assert paced.out == "hello.1 restart goes on 2 at a time, 5.0 s apart\n"
    assert (rota("rollout", "skip").code, rota("rollout", "set").code) == (2, 2)
    assert rota("rollout", "abort", "hello.1").out == "hello.1 restart cancelled\n"


def test_shutdown_returns_once_the_server_is_gone(rota: RotaCommand, engine: ScriptedEngine, server: Served) -> None:
    engine.on_shutdown = server.leave
    ended = rota("shutdown", "--keep-apps")
    assert (ended.code, ended.out) == (0, "the server has stopped; the apps go on\n")
    assert engine.shutdowns == [True]


@contextmanager
def running(word: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a word in its command, until its stdin is closed."""
    argv = [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()", word]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process


def test_shutdown_waits_for_the_process_to_end(rota: RotaCommand, engine: ScriptedEngine, server: Served) -> None:
    engine.on_shutdown = server.leave
    with running("serve") as process, running("keeper") as keeper:
        engine.pid, engine.keeper = process.pid, keeper.pid
        stopping = rota.start("shutdown")
        server._thread.join(20)
        with pytest.raises(subprocess.TimeoutExpired):
            stopping.wait(1.0)
        keeper.communicate()
        process.communicate()
        assert stopping.wait(20) == 0
        assert stopping.stdout is not None
        assert stopping.stdout.read() == "the server and its apps have stopped\n"


def test_shutdown_does_not_say_that_apps_have_stopped_which_a_signal_left_running(
    rota: RotaCommand, engine: ScriptedEngine, server: Served
) -> None:
    """The keeper, which ends last, is there still."""
    engine.on_shutdown = server.leave
    with running("keeper") as keeper:
        engine.keeper = keeper.pid
        ended = rota("shutdown")
        assert (ended.code, ended.out) == (1, "")
        assert "the server has ended before all its apps had stopped: HAProxy and the replicas" in ended.err


def test_shutdown_says_nothing_of_apps_that_it_cannot_see(
    rota: RotaCommand, engine: ScriptedEngine, server: Served
) -> None:
    engine.on_shutdown = server.leave
    ended = rota("shutdown")
    assert (ended.code, ended.out) == (0, "the server has stopped; whether its apps have cannot be seen from here\n")


def test_init_writes_a_valid_file_and_never_over_one(rota: RotaCommand, tmp_path: Path) -> None:
    directory = tmp_path / "My Shop"
    directory.mkdir()
    rota.directory = directory
    assert rota("init").code == 0
    text = (directory / "rota.yaml").read_text()
    assert "name: my-shop" in text
    assert rota("validate").out == "rota.yaml: ok\n"
    again = rota("init")
    assert again.code == 2
    assert (directory / "rota.yaml").read_text() == text


def test_the_schema_is_one_of_the_file(rota: RotaCommand) -> None:
    schema = rota("schema").json
    assert rota("schema", "--json").json == schema
    assert {"name", "command", "replicas", "rollout"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def test_every_command_has_an_example_in_its_help(rota: RotaCommand) -> None:
    for argv in (["deploy"], ["restart"], ["rollout", "watch"], ["limits"], ["ps"]):
        ended = rota(*argv, "--help", COLUMNS="200")
        assert ended.code == 0
        assert f"Example: rota {' '.join(argv)}" in ended.out
    out = rota("--help").out
    for name in ("serve", "deploy", "shutdown", "rollout"):
        assert f" {name} " in out


def test_no_color_is_written_where_none_is_wanted(rota: RotaCommand) -> None:
    assert "\x1b[" not in rota("--help", NO_COLOR="1").out


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_answered_without_loading_anything(flag: str) -> None:
    code = (
        f"import sys; sys.argv = ['rota', {flag!r}]\n"
        "from rota.__main__ import main\n"
        "code = main()\n"
        "heavy = {'typer', 'pydantic', 'rich', 'http.client', 'yaml'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("rota ")


def test_statistics_are_a_table_and_the_backends_below_it(rota: RotaCommand) -> None:
    lines = rota("stats", "hello").out.splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["REPLICA", "PHASE", "MEMORY", "CPU", "REQUESTS", "5XX", "OPEN"],
        ["hello-1", "ready", "32.0", "MiB", "of", "256.0", "MiB", "12.5", "%", "1,234", "5", "1", "(1", "WebSocket)"],
        ["hello-2", "ready", "-", "-", "1,234", "5", "1", "(1", "WebSocket)"],
    ]
    assert lines[3:] == [
        "hello.0a1b2c3d: 1,240 requests, 0 failed, 5 answered 5xx by the app, 2 retried, 1 open",
        "1 old HAProxy process still holds connections",
    ]
    assert rota("stats").out == rota("stats", "hello").out


def test_ps_loads_neither_typer_nor_pydantic(rota: RotaCommand) -> None:
    code = (
        "import sys; sys.argv = ['rota', 'ps', 'hello', '--json']\n"
        "from rota.__main__ import main\n"
        "code = main()\n"
        "heavy = {'typer', 'pydantic', 'rich', 'yaml', 'asyncio'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False, env=rota.environment
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads(ended.stdout)["app"] == "hello"


def test_commands_that_read_no_file_load_no_pydantic() -> None:
    code = "import sys, rota.cli.tree; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=20, check=False).returncode == 0


def test_of_many_failures_the_last_are_shown_with_the_last_log() -> None:
    failures = [
        {"replica": f"hello-{n}", "reason": "unhealthy", "detail": f"answered {500 + n}", "log": [f"line of {n}"]}
        for n in range(20)
    ]
    view = {"id": "hello.3", "kind": "deploy", "phase": "failed", "reason": "unhealthy", "receipt": None}
    assert wording.ending(view | {"detail": "too many failed\nsecond line", "failures": failures}) == [
        "hello.3 deploy failed: unhealthy",
        "too many failed",
        "hello-17 unhealthy: answered 517",
        "hello-18 unhealthy: answered 518",
        "hello-19 unhealthy: answered 519",
        "  | line of 19",
    ]


def test_a_receipt_tells_of_gaps_and_of_what_is_missing() -> None:
    gap = {"since": "x", "until": "y", "seconds": 1.3, "reason": "no replica in service"}
    lines = wording.receipt(RECEIPT | {"complete": False, "gaps": [gap], "app_errors": 4})
    assert lines[1:] == [
        "4 answered with an error by the app itself",
        "release 1: 9,000, release 2: 9,412",
        "no replica in service for 1.3 s",
        "incomplete: the load balancer was lost for a time, so some requests may not be counted",
    ]


def test_a_receipt_tells_about_how_much_was_lost_with_haproxy(rota: RotaCommand) -> None:
    gap: dict[str, object] = {
        "seconds": 0.18,
        "reason": "HAProxy was not running",
        "last_look": None,
        "came_meanwhile": None,
    }
    look = {"seconds_before": 0.02, "open": 3, "requests_per_second": 300}
    gaps = [
        gap,
        gap | {"last_look": look, "came_meanwhile": {"requests": 54, "connections": 2}},
        gap | {"last_look": look, "seconds": None},
    ]
    assert wording.receipt(RECEIPT | {"gaps": gaps})[-3:] == [
        "HAProxy was not running for 180 ms",
        "HAProxy was not running for 180 ms; 3 open 20 ms before were cut off, about 54 requests and 2 TCP connections "
        "came meanwhile (estimated)",
        "HAProxy was not running for a time that goes on; 3 open 20 ms before were cut off",
    ]


def test_a_port_that_means_nothing_here_is_named(rota: RotaCommand, app: Path) -> None:
    (app / "rota.yaml").write_text('name: hello\ncommand: ["python3", "app.py"]\nport: 8080\n')
    assert rota("validate").err == ""
    note = "rota.yaml: note: port: 8080 is not used on the process runtime: the app listens on $PORT\n"
    assert rota("deploy").err.startswith(note)


def test_a_variable_that_rota_sets_itself_is_named_at_its_place(rota: RotaCommand, app: Path) -> None:
    (app / "rota.yaml").write_text(
        'name: hello\ncommand: ["python3", "app.py"]\nports: [{listen: 5432}]\nenv:\n'
        + "".join(f"- {{name: {name}, value: x}}\n" for name in ("PORT", "MINE", "PORT_5432", "PORT_1", "ROTA_DATA"))
    )
    notes = [
        f"rota.yaml:{line}:10: note: env: rota sets {name} for each replica, and none sees this value"
        for line, name in ((5, "PORT"), (7, "PORT_5432"), (9, "ROTA_DATA"))
    ]
    told = rota("validate")
    assert (told.code, told.out, told.err.splitlines()) == (0, "rota.yaml: ok\n", notes[:2])
    assert rota("deploy").err.splitlines()[:3] == notes


def test_a_check_that_is_late_with_one_that_hangs_is_named(rota: RotaCommand, app: Path) -> None:
    (app / "rota.yaml").write_text(
        'name: hello\ncommand: ["python3", "app.py"]\nhealth_check: {path: /, interval: 1s}\n'
    )
    note = "rota.yaml: note: health_check: a replica that answers nothing gets requests for up to 6.5 s, not 4.5 s: "
    told = rota("validate")
    assert (told.code, told.out) == (0, "rota.yaml: ok\n")
    assert told.err.startswith(note)
    assert rota("deploy").err.startswith(note)


def test_an_image_is_refused_at_its_place_where_replicas_are_processes(
    rota: RotaCommand, engine: ScriptedEngine, app: Path
) -> None:
    (app / "rota.yaml").write_text("name: hello\nimage: nginx\n")
    ended = rota("deploy")
    assert (ended.code, engine.orders) == (3, [])
    assert ended.err == "rota.yaml:2:1: image alone cannot run on the process runtime: give command:\n"


def test_an_image_is_deployed_without_an_upload(rota: RotaCommand, engine: ScriptedEngine, app: Path) -> None:
    engine.runtime = "docker"
    (app / "rota.yaml").write_text("name: hello\nimage: nginx\nport: 80\n")
    assert rota("deploy").code == 0
    [(_, order)] = engine.orders
    assert order.source is None  # type: ignore[union-attr]
    assert engine.sources.sizes == {}
