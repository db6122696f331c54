"""A name server of rota's as a process of its own, with a table to write, ended with its test."""

from __future__ import annotations

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
from typing import Any

import dns.exception
import dns.message
import dns.query
import pytest
from dns.message import Message

from rota.testing.server import free_port

PATIENCE = 10.0  # seconds


def entry(number: int, slot: int = 0, host: str = "10.0.0.1", app: str = "web", release: int = 1) -> dict[str, Any]:
    slot = slot or number
    names = {"app": app, "replica": f"{app}-{number}", "slot": slot, "release": release}
    return names | {"host": host, "port": 20000 + number}


class RunningNameServer:
    """Made by the ``nameserver`` fixture; ``options`` go to its command line."""

    def __init__(self, *options: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rota-"))
        self.port = free_port()
        self.table = self.directory / "table.json"
        self.control = self.directory / "control.sock"
        self._options = options
        self._version = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def write(self, *entries: dict[str, Any], ttl: int = 1) -> None:
        self._version += 1
        self.table.write_text(json.dumps({"version": self._version, "ttl": ttl, "replicas": entries}))

    def start(self) -> None:
        command = [sys.executable, "-m", "rota", "nameserver", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--table", str(self.table), "--control", str(self.control), *self._options]
        self._process = subprocess.Popen(command, stderr=(self.directory / "log").open("ab"))
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log

    def load(self) -> dict[str, Any]:
        """What the daemon asks after it has written the table."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE)
            line.connect(str(self.control))
            line.sendall(b"load\n")
            told: dict[str, Any] = json.loads(line.makefile().readline())
            return told

    def set(self, *entries: dict[str, Any]) -> None:
        self.write(*entries)
        assert self.load() == {"version": self._version, "listening": True}

    def reload_by_signal(self) -> None:
        os.kill(self.pid, signal.SIGHUP)

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def ask(self, name: str, kind: str = "A", *, tcp: bool = False, **options: Any) -> Message:
        query = dns.message.make_query(name, kind, **options)
        ask = dns.query.tcp if tcp else dns.query.udp
        return ask(query, "127.0.0.1", timeout=PATIENCE, port=self.port)

    def texts(self, name: str, kind: str = "A") -> list[str]:
        return [record.to_text() for answer in self.ask(name, kind).answer for record in answer]

    def until(self, holds: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.01)

    def end_process(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            assert self._process.wait(PATIENCE) == 0

    def end(self) -> None:
        self.end_process()
        shutil.rmtree(self.directory)

    def _answers(self) -> bool:
        try:
            dns.query.udp(dns.message.make_query("rota.internal", "SOA"), "127.0.0.1", timeout=0.2, port=self.port)
        except (OSError, dns.exception.Timeout):
            time.sleep(0.02)
            return False
        return True


@pytest.fixture
def run_nameserver() -> Iterator[Callable[..., RunningNameServer]]:
    started: list[RunningNameServer] = []

    def run(*options: str, entries: tuple[dict[str, Any], ...] = ()) -> RunningNameServer:
        made = RunningNameServer(*options)
        started.append(made)
        made.write(*entries)
        made.start()
        return made

    yield run
    for made in started:
        made.end()


@pytest.fixture(scope="session")
def shared_nameserver() -> Iterator[RunningNameServer]:
    made = RunningNameServer()
    try:
        made.write()
        made.start()
        yield made
    finally:
        made.end()


@pytest.fixture
def nameserver(shared_nameserver: RunningNameServer) -> RunningNameServer:
    """With three replicas of the app web; its table may be changed."""
    shared_nameserver.set(entry(1), entry(2, host="10.0.0.2"), entry(3, host="fd00::3", release=2))
    return shared_nameserver
