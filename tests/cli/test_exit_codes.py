"""Each exit code of design.md, as a process gives it."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.api.scripted_engine import RECEIPT, ScriptedEngine
from tests.cli.rota_command import RotaCommand

from rota.cli.outcome import exit_code, worst
from rota.core.errors import CapacityError, Missing, Problem, SpecError

LOSS = RECEIPT | {"failed": 2}
FAILURE = {
    "replica": "hello-4",
    "slot": 1,
    "reason": "crashed",
    "detail": "exit code 1 after 0.3 s",
    "log": ["Traceback of the app", "KeyError: 'DB'"],
    "at": "2026-11-22T12:00:02.000Z",
}


@pytest.mark.parametrize(
    ("ending", "flags", "code"),
    [
        ({"phase": "succeeded"}, (), 0),
        ({"phase": "succeeded", "receipt": LOSS}, (), 0),
        ({"phase": "succeeded", "receipt": LOSS}, ("--fail-on-loss",), 7),
        ({"phase": "succeeded", "receipt": RECEIPT | {"complete": False}}, ("--fail-on-loss",), 7),
        ({"phase": "rolled_back", "reason": "crashed"}, (), 5),
        ({"phase": "rolled_back", "reason": "timeout-error"}, (), 6),
        ({"phase": "failed", "reason": "progress-deadline"}, (), 6),
        ({"phase": "paused", "reason": "crashed", "finished_at": None}, (), 8),
        ({"phase": "failed", "reason": "crashed"}, (), 1),
        ({"phase": "cancelled", "reason": "superseded"}, (), 1),
    ],
)
def test_the_code_is_the_rollouts_end(
    rota: RotaCommand, engine: ScriptedEngine, ending: dict[str, Any], flags: tuple[str, ...], code: int
) -> None:
    engine.ending = {"reason": "", "receipt": RECEIPT} | ending
    assert rota("restart", "hello", *flags).code == code


@pytest.mark.parametrize(
    ("phase", "reason", "failed", "code"),
    [
        ("rolled_back", "timeout-error", 3, 6),
        ("rolled_back", "unhealthy", 3, 5),
        ("paused", "unhealthy", 3, 7),
        ("paused", "timeout-error", 0, 6),
        ("failed", "unhealthy", 3, 7),
        ("succeeded", "timeout-error", 0, 0),
    ],
)
def test_of_several_causes_the_first_counts(phase: str, reason: str, failed: int, code: int) -> None:
    assert exit_code({"phase": phase, "reason": reason, "receipt": RECEIPT | {"failed": failed}}, True) == code


def test_of_several_rollouts_the_worst_counts() -> None:
    assert [worst(codes) for codes in ([0, 1, 5], [8, 7], [0, 0], [5, 6])] == [5, 7, 0, 6]


def test_a_rolled_back_deploy_shows_why_and_what_serves(rota: RotaCommand, engine: ScriptedEngine, app: Path) -> None:
    detail = "hello-4: exit code 1 after 0.3 s"
    engine.ending = {"phase": "rolled_back", "reason": "crashed", "detail": detail, "failures": [FAILURE]}
    ended = rota("deploy")
    assert ended.code == 5
    assert ended.out.splitlines() == [
        "hello.1 deploy was rolled back: crashed",
        "hello-4 crashed: exit code 1 after 0.3 s",
        "  | Traceback of the app",
        "  | KeyError: 'DB'",
        "0 failed of 18,412 requests (retried 2, redispatched 1, cut 0)",
        "release 1: 9,000, release 2: 9,412",
        "release 1 serves",
    ]


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["explode"], "No such command"),
        (["restart"], "APP"),
        (["restart", "hello", "--polisy"], "--polisy"),
        (["restart", "hello", "--sequential", "--simultaneous"], "contradict"),
        (["restart", "hello", "--order", "sideways"], "start-first"),
        (["restart", "hello", "--delay", "301"], "a delay is 0 to 300 seconds, not 301"),
        (["restart", "hello", "--parallelism", "0"], "parallelism"),
        (["scale", "hello"], "'hello' is not APP=N"),
        (["scale", "hello=-1"], "is not APP=N"),
        (["limits", "hello"], "--memory, --cpus or --cloudlets"),
        (["limits", "hello", "--memory", "much"], "memory: a size is expected"),
        (["limits", "hello", "--cpus", "x"], "--cpus x is not a number"),
        (["remove", "hello"], "give --yes"),
        (["ps", "--bogus"], "--bogus"),
        (["ps", "hello", "hello"], "hello"),
        (["ps", "No such app"], "is not an app name"),
    ],
)
def test_wrong_use_is_2(rota: RotaCommand, engine: ScriptedEngine, argv: list[str], says: str) -> None:
    ended = rota(*argv)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
    assert not engine.orders


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "rota.yaml: there is no such file; write one with: rota init"),
        ('name: hello\nreplicsa: 2\ncommand: ["x"]\n', "rota.yaml:2:1: "),
        ('name: hello\ncommand: ["x"]\nreplicas: 0\n', "rota.yaml:3:"),
        ("", "rota.yaml"),
        ("- a list\n", "rota.yaml:1:1: "),
    ],
)
@pytest.mark.parametrize("command", ["deploy", "validate"])
def test_a_wrong_file_is_3(rota: RotaCommand, tmp_path: Path, command: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / "rota.yaml").write_text(text)
    ended = rota(command)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith(says)


def test_every_problem_of_a_file_has_a_line(rota: RotaCommand, tmp_path: Path) -> None:
    (tmp_path / "rota.yaml").write_text('name: Hello\ncommand: ["x"]\nreplicas: 0\nbogus: 1\n')
    lines = rota("validate").err.splitlines()
    assert [line.split(":")[:2] for line in lines] == [["rota.yaml", "1"], ["rota.yaml", "3"], ["rota.yaml", "4"]]


@pytest.mark.parametrize("error", [CapacityError("3 x 512 MiB do not fit"), SpecError([Problem("no room", 2, 1)])])
def test_what_the_server_finds_wrong_with_a_file_is_3(
    rota: RotaCommand, engine: ScriptedEngine, error: Exception
) -> None:
    engine.failure = error
    ended = rota("restart", "hello")
    assert (ended.code, ended.err) == (3, f"{error}\n")


def test_no_server_is_4(rota: RotaCommand) -> None:
    for argv in (["ps", "hello"], ["restart", "hello"], ["events", "-f"], ["shutdown"]):
        ended = rota(*argv, ROTA_SERVER="http://127.0.0.1:9")
        assert ended.code == 4
        assert ended.err == "no rota server answers at http://127.0.0.1:9; start one with: rota serve\n"


def test_a_wrong_token_is_4_and_names_where_it_came_from(rota: RotaCommand, tmp_path: Path) -> None:
    assert "the token of ROTA_TOKEN" in rota("ps", "hello", ROTA_TOKEN="wrong").err
    missing = rota("ps", "hello", ROTA_TOKEN=None)
    assert missing.code == 4
    assert f"{tmp_path}/admin.token cannot be read" in missing.err


def test_the_token_is_found_in_the_data_directory(rota: RotaCommand, tmp_path: Path) -> None:
    (tmp_path / "admin.token").write_text(rota.environment["ROTA_TOKEN"] + "\n")
    assert rota("ps", "hello", ROTA_TOKEN=None).code == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:7700", "http://127.0.0.1:x", "http://", "http://h/path"])
def test_a_wrong_server_url_is_2(rota: RotaCommand, url: str) -> None:
    ended = rota("ps", "hello", ROTA_SERVER=url)
    assert (ended.code, ended.err) == (2, f"ROTA_SERVER is {url!r}; write it as http://127.0.0.1:7700\n")


def test_the_rest_is_1(rota: RotaCommand, engine: ScriptedEngine) -> None:
    missing = rota("ps", "nope")
    assert (missing.code, missing.err) == (1, "there is no app nope\n")
    engine.failure = Missing("HAProxy is not installed; apt-get install haproxy")
    assert rota("restart", "hello").code == 1
    engine.failure = None
    engine.held = True
    assert rota("restart", "hello", "--detach").code == 0
    second = rota("restart", "hello")
    assert (second.code, second.err) == (1, "hello.1 is under way\n")


def test_a_bug_of_the_server_is_one_line(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.failure = RuntimeError("inside")
    ended = rota("restart", "hello")
    assert (ended.code, ended.err) == (1, "the server failed at this request; its log says why\n")


class _Somebody(http.server.BaseHTTPRequestHandler):
    """A web server that is no rota."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/v1/apps" else 404)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (("ls",), "GET /api/v1/apps is answered with something else than JSON"),
        (("ps", "hello"), "it says 404 Not Found"),
        (("restart", "hello"), "it says 404 Not Found"),
    ],
)
def test_a_server_that_is_no_rota_is_told(rota: RotaCommand, command: tuple[str, ...], why: str) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Somebody) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        answer = rota(*command, ROTA_SERVER=url)
        server.shutdown()
    assert (answer.code, answer.err) == (4, f"what answers at {url} is no rota server: {why}; set ROTA_SERVER\n")


@pytest.mark.parametrize("token", ["two\nlines", "тайна"])
def test_a_token_that_cannot_be_sent_is_told(rota: RotaCommand, token: str) -> None:
    answer = rota("ls", ROTA_TOKEN=token)
    assert (answer.code, answer.err.partition(";")[0]) == (
        2,
        "the token of ROTA_TOKEN has characters that no token has",
    )


@pytest.mark.parametrize("command", [("ls",), ("ls", "--json"), ("releases", "hello")])
def test_an_answer_for_which_there_is_no_room_is_told(rota: RotaCommand, command: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "rota", *command]
        done = subprocess.run(words, env=rota.environment, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "the answer cannot be written: No space left on device\n")
