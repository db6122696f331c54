"""A real keeper on a short path, a small client for its socket, and the end of everything it started."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

_RUN = "import sys; from rota.keeper import main; sys.exit(main(sys.argv[1:]))"
PATIENCE = 10.0
T = TypeVar("T")


def until(condition: Callable[[], T]) -> T:
    """The first true answer; fails after `PATIENCE` seconds."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)
    return answer


def running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class Connection:
    """One connection to a keeper; events that come in between are put by."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE)
        self.socket.connect(str(path))
        self._lines = self.socket.makefile("rb")
        self._events: list[dict[str, Any]] = []

    def send(self, **request: Any) -> None:
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        message: dict[str, Any] = json.loads(line)
        return message

    def ask(self, op: str, **fields: Any) -> dict[str, Any]:
        """The reply, be it a refusal."""
        self.send(id=1, op=op, **fields)
        while "event" in (message := self.receive()):
            self._events.append(message)
        return message

    def do(self, op: str, **fields: Any) -> dict[str, Any]:
        """The reply, which must be ok."""
        reply = self.ask(op, **fields)
        assert reply["ok"], reply
        return reply

    def receive_all(self) -> None:
        """Until the other side closes, which is raised as EOFError or ConnectionError."""
        while True:
            self.receive()

    def event(self, kind: str, name: str) -> dict[str, Any]:
        """The child of the next event of this kind about this name."""
        while True:
            message = self._events.pop(0) if self._events else self.receive()
            if message["event"] == kind and message["child"]["name"] == name:
                child: dict[str, Any] = message["child"]
                return child

    def close(self) -> None:
        self._lines.close()
        self.socket.close()


class Keeper:
    """A keeper process of a data directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket_path = directory / "keeper.sock"
        self.process: subprocess.Popen[bytes] | None = None
        self._connections: list[Connection] = []

    def run(self, **environment: str) -> "Keeper":
        self.process = self.spawn(**environment)
        until(self._answers)
        return self

    def spawn(self, **environment: str) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", _RUN, "--data-dir", str(self.directory)]
        return subprocess.Popen(
            command, env={**os.environ, **environment}, stderr=subprocess.PIPE, start_new_session=True
        )

    def connect(self) -> Connection:
        connection = Connection(self.socket_path)
        self._connections.append(connection)
        return connection

    def kill(self) -> None:
        self.end(signal.SIGKILL)

    def end(self, signum: int) -> int:
        assert self.process is not None
        self.process.send_signal(signum)
        code = self.process.wait(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return code

    @property
    def id(self) -> str:
        return (self.directory / "id").read_text().strip()

    def record(self, name: str) -> dict[str, Any]:
        """What is on disk."""
        content = (self.directory / "keeper" / "children" / f"{name}.json").read_text()
        record: dict[str, Any] = json.loads(content)
        return record

    def pids(self) -> list[int]:
        """All processes that carry this directory's mark."""
        mark = f"ROTA_KEEPER={self.id}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
        return found

    def clean(self) -> None:
        for connection in self._connections:
            connection.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        if (self.directory / "id").exists():
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the keeper has ended"
        try:
            connection = Connection(self.socket_path)
        except OSError:
            return False
        connection.do("ping")
        connection.close()
        return True


@pytest.fixture
def stopped() -> Iterator[Keeper]:
    keeper = Keeper(Path(tempfile.mkdtemp(prefix="rota-", dir="/tmp")))
    yield keeper
    keeper.clean()


@pytest.fixture
def keeper(stopped: Keeper) -> Keeper:
    return stopped.run()


def order(name: str, *argv: str, **fields: Any) -> dict[str, Any]:
    """A child that runs `argv`."""
    return {"name": name, "argv": list(argv), "env": {"PATH": os.environ["PATH"]}, **fields}


def python(name: str, program: str, **fields: Any) -> dict[str, Any]:
    """A child that runs a piece of Python."""
    return order(name, sys.executable, "-c", program, **fields)
