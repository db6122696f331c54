"""Waiting for a rollout: left, taken up again, and seen through a server that restarts."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from tests.api.scripted_engine import ScriptedEngine, Served
from tests.cli.rota_command import RotaCommand

CURSOR_SHOWN, CURSOR_HIDDEN = b"\x1b[?25h", b"\x1b[?25l"  # ECMA-48 with DEC's private mode


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lines_until(words: str, command: subprocess.Popen[str]) -> list[str]:
    """What it has said when the words come; the test's timeout is the deadline."""
    assert command.stderr is not None
    said: list[str] = []
    while not said or words not in said[-1]:
        line = command.stderr.readline()
        assert line, said
        said.append(line.rstrip("\n"))
    return said


def test_ctrl_c_leaves_the_rollout_to_itself(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = True
    waiting = rota.start("restart", "hello")
    until(lambda: engine.streams == 1)
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=20)
    assert (waiting.returncode, out) == (130, "")
    assert err.endswith("hello.1 goes on; come back with: rota rollout watch hello.1\n")
    assert rota("rollout", "show", "hello.1", "--json").json["phase"] == "progressing"


def test_ctrl_c_before_the_answer_says_how_to_find_out(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = engine.unanswered = True
    waiting = rota.start("restart", "hello")
    until(lambda: bool(engine.orders))
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=20)
    engine.unanswered = False
    assert (waiting.returncode, out) == (130, "")
    assert "may have taken the order for hello" in err
    assert err.endswith("look with: rota rollout watch hello\n")


def test_coming_back_ends_with_the_rollouts_code(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = True
    assert rota("restart", "hello", "--detach").out == "hello.1\n"
    engine.ending = {"phase": "rolled_back", "reason": "unhealthy"}
    waiting = rota.start("rollout", "watch", "hello.1")
    until(lambda: engine.streams == 1)
    engine.finish("hello.1")
    out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 5
    assert out.startswith("hello.1 restart was rolled back: unhealthy\n")


@pytest.mark.parametrize(
    ("count", "slots", "not_yet", "reached"),
    [(4, "4 replicas", [1, 2, 3], [1, 3, 4]), (1, "1 replica", [2], [1])],
)
def test_a_scale_that_finds_a_rollout_under_way_waits_for_its_own_slots_alone(
    rota: RotaCommand, engine: ScriptedEngine, count: int, slots: str, not_yet: list[int], reached: list[int]
) -> None:
    """The rollout may wait for minutes between two replicas."""
    engine.held, engine.slots = True, not_yet
    rota("restart", "hello", "--detach")
    waiting = rota.start("scale", f"hello={count}")
    until(lambda: engine.looked > 1)
    assert waiting.poll() is None
    engine.slots = reached
    out, err = waiting.communicate(timeout=20)
    assert waiting.returncode == 0
    assert out == f"hello has {slots}; hello.1 restart goes on\n"
    assert err == f"hello is to have {count}; hello.1 restart goes on beside; Ctrl-C waits no longer\n"
    assert rota("scale", f"hello={count}", "--json").json["phase"] == "progressing"


def test_a_scale_ends_with_the_rollout_that_it_found_when_that_ends_first(
    rota: RotaCommand, engine: ScriptedEngine, server: Served
) -> None:
    engine.held, engine.ending = True, {"phase": "rolled_back", "reason": "unhealthy"}
    rota("restart", "hello", "--detach")
    waiting = rota.start("scale", "hello=4")
    until(lambda: engine.looked > 1)
    server.stop()
    lines_until("does not answer", waiting)
    engine.finish("hello.1")
    server.start()
    out, _ = waiting.communicate(timeout=30)
    assert waiting.returncode == 5
    assert out.startswith("hello.1 restart was rolled back: unhealthy\n")


def test_a_server_that_restarts_is_waited_for_and_no_event_is_shown_twice(
    rota: RotaCommand, engine: ScriptedEngine, server: Served
) -> None:
    engine.held = True
    waiting = rota.start("restart", "hello")
    until(lambda: engine.streams == 1)
    server.stop()
    said = lines_until("does not answer", waiting)
    engine.finish("hello.1")
    server.start()
    out, err = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert out.startswith("hello.1 restart succeeded in 4.2 s\n")
    assert [*said, *err.splitlines()] == [
        "12:00:01 hello.1 progressing",
        "12:00:01 hello-4 in rotation: ready and stable",
        "the server does not answer; what runs goes on without it, waiting for it up to 60 s",
        "12:00:01 hello.1 succeeded",
    ]


def test_a_paused_rollout_waits_for_a_person(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = True
    waiting = rota.start("restart", "hello")
    until(lambda: engine.streams == 1)
    assert rota("rollout", "pause").code == 0
    out, _ = waiting.communicate(timeout=20)
    assert waiting.returncode == 8
    assert "go on with: rota rollout resume hello.1" in out


def test_an_old_pause_is_shown_and_passed_over(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = True
    assert rota("restart", "hello", "--detach").code == 0
    assert rota("rollout", "pause").code == 0
    assert rota("rollout", "resume").code == 0
    waiting = rota.start("rollout", "watch", "hello.1")
    until(lambda: engine.streams == 1)
    engine.finish("hello.1")
    out, err = waiting.communicate(timeout=20)
    assert out.startswith("hello.1 restart succeeded")
    phases = [line.split()[-1] for line in err.splitlines() if " hello.1 " in line]
    assert phases == ["progressing", "paused", "progressing", "succeeded"]


def test_the_second_pause_ends_the_waiting_and_not_the_first(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = True
    assert rota("restart", "hello", "--detach").code == 0
    for verb in ("pause", "resume", "pause"):
        assert rota("rollout", verb, "hello.1").code == 0
    ended = rota("rollout", "watch", "hello.1")
    assert ended.code == 8
    assert ended.err.count(" paused") == 2


class Terminal:
    """A command at a terminal: what a person sees of it, and what it wrote to stdout, which leads elsewhere."""

    def __init__(self, rota: RotaCommand, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.seen = b""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rota", *words],
            env=rota.environment | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"},
            stdin=theirs,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
        )
        rota.started.append(self.process)
        os.close(theirs)

    def until(self, *words: bytes) -> None:
        while not all(word in self.seen for word in words):
            self.seen += os.read(self._ours, 4096)

    def ended(self) -> tuple[int, str]:
        """Its code and its output."""
        while True:
            try:
                self.seen += os.read(self._ours, 4096)
            except OSError:  # how a pseudo-terminal says that the other side is gone
                break
        out, _ = self.process.communicate(timeout=20)
        os.close(self._ours)
        return self.process.returncode, out


def test_a_terminal_sees_a_bar_and_the_replicas(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held, engine.draining = True, {2: 3}
    terminal = Terminal(rota, "restart", "hello")
    terminal.until(b"hello-2", b"0/3", b"3 open")
    engine.finish("hello.1")
    code, out = terminal.ended()
    seen = terminal.seen
    assert code == 0
    assert out.startswith("hello.1 restart succeeded")
    assert b"hello-4 in rotation" in seen
    assert b"about 2 min 5 s left" in seen
    assert b"Traceback" not in seen
    assert b"[green]" not in seen


def test_ctrl_c_at_a_terminal_gives_it_back_as_it_was(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.held = True
    terminal = Terminal(rota, "restart", "hello")
    terminal.until(b"hello-2")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.ended() == (130, "")
    assert b"hello.1 goes on; come back with: rota rollout watch hello.1" in terminal.seen
    assert terminal.seen.rindex(CURSOR_SHOWN) > terminal.seen.rindex(CURSOR_HIDDEN)
    assert b"Traceback" not in terminal.seen


def test_an_order_whose_answer_is_lost_is_sent_again_and_carried_out_once(
    rota: RotaCommand, engine: ScriptedEngine, server: Served
) -> None:
    """As when the server is killed between carrying an order out and answering."""
    with losing_first_answer_to("POST", server.port) as port:
        ended = rota("restart", "hello", ROTA_SERVER=f"http://127.0.0.1:{port}")
    assert ended.code == 0
    assert ended.out.startswith("hello.1 restart succeeded")
    assert len(engine.orders) == 1


@contextmanager
def losing_first_answer_to(method: str, port: int) -> Iterator[int]:
    """A relay to ``port`` that reads the first answer to such a request and passes nothing of it on."""
    to_lose = [method.encode()]

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", port)) as there:
                lose = False
                while ready := select.select([self.request, there], [], [])[0]:
                    if self.request in ready:
                        sent = self.request.recv(65536)
                        if not sent:
                            return
                        lose = lose or any(sent.startswith(word) for word in to_lose)
                        there.sendall(sent)
                    if there in ready:
                        answer = there.recv(65536)
                        if lose:
                            to_lose.clear()
                        if lose or not answer:
                            return
                        self.request.sendall(answer)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as relay:
        thread = threading.Thread(target=relay.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield relay.server_address[1]
        finally:
            relay.shutdown()
            thread.join()
