"""A real server and an app on it as plain calls, for tests that share one server; made by the fixtures in conftest."""

from __future__ import annotations

import asyncio
import http.client
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from tests.e2e.site import Processes, Site

from rota.testing.reboot import switch_off
from rota.testing.server import Answer, RunningServer

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What a user gets."""

    status: int
    body: str
    replica: str | None


class Server:
    """``rota serve`` in a temporary directory; its asyncio half runs in a thread of its own, so that any test may use
    it. Between ``start`` and ``end``."""

    def __init__(self, directory: Path | None = None, *options: str, site: Site | None = None) -> None:
        self.site = site or Processes()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.running = RunningServer(directory, *self.site.options, *options)

    def start(self, **environment: str) -> None:
        self._do(self.running.start(**environment), 60)

    def kill(self) -> None:
        """SIGKILL to the daemon alone."""
        self._do(self.running.kill(), 20)

    def switch_off(self) -> None:
        """All of it ends as with the machine; ``start`` is of the next boot."""
        self._do(switch_off(self.running), 60)

    def end(self) -> None:
        try:
            self._do(self.running.end(), 300)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def ended(self) -> int:
        """The daemon's exit code, once it has ended by itself."""
        return self._do(self.running.ended(), 90)

    def rota(self, *words: str, cwd: Path | None = None, **environment: str) -> Answer:
        return self._do(self.running.cli(*words, cwd=cwd, **environment), 130)

    def ok(self, *words: str, cwd: Path | None = None) -> Answer:
        """Raises ServerBroken with all that is known unless the command succeeds."""
        return self._do(self.running.ok(*words, cwd=cwd), 130)

    def begin(self, *words: str, cwd: Path | None = None) -> Command:
        """A command that runs beside the test."""
        return Command(self, self._do(self.running.begin_cli(*words, cwd=cwd), 10))

    def api(self, path: str) -> Any:
        return self._do(self.running.get(f"/api/v1/{path}"), 30)

    def replicas(self, app: str) -> list[dict[str, Any]]:
        return self._do(self.running.replicas(app), 30)

    def request(self, host: str, path: str = "/", method: str = "GET") -> Reply:
        """One user's request, through HAProxy, on a connection of its own."""
        line = http.client.HTTPConnection("127.0.0.1", self.running.http_port, timeout=60)
        try:
            line.request(method, path, headers={"Host": host})
            answer = line.getresponse()
            return Reply(answer.status, answer.read().decode(), answer.headers.get("X-Rota-Replica"))
        finally:
            line.close()

    def _do(self, work: Coroutine[Any, Any, T], timeout: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def _line(self, stream: asyncio.StreamReader | None) -> str:
        assert stream is not None
        return (await stream.readline()).decode()


class Command:
    """One command that runs; end it before the test ends."""

    def __init__(self, server: Server, process: asyncio.subprocess.Process) -> None:
        self._server = server
        self._process = process

    def line(self) -> str:
        """The next line of its stdout."""
        return self._server._do(self._server._line(self._process.stdout), 20)

    def said(self) -> str:
        """The next line of its stderr."""
        return self._server._do(self._server._line(self._process.stderr), 20)

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def answer(self) -> Answer:
        """Waits for its end."""
        out, err = self._server._do(self._process.communicate(), 120)
        assert self._process.returncode is not None
        return Answer(self._process.returncode, out.decode(), err.decode())

    def end(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            self._server._do(self._process.wait(), 10)


class Hello:
    """A copy of examples/hello with a name of its own; ``write`` changes its rota.yaml."""

    def __init__(self, server: Server, directory: Path, name: str) -> None:
        self.server = server
        self.directory = directory
        self.name = name
        self.host = f"{name}.localhost"
        self.write()

    @property
    def file(self) -> Path:
        return self.directory / "rota.yaml"

    def write(self, *, env: dict[str, str] | None = None, **keys: Any) -> None:
        """The file anew: two replicas with a health check, and what is given."""
        plain = {"name": self.name, "replicas": 2, "health_check_path": "/health", **self.server.site.keys()}
        variables = [{"name": name, "value": value} for name, value in (env or {}).items()]
        self.file.write_text(yaml.safe_dump({**plain, "env": variables, **keys}, sort_keys=False))

    def deploy(self, *flags: str) -> Answer:
        """As a person would, from the app's directory."""
        return self.server.rota("deploy", *flags, cwd=self.directory)

    def deployed(self, *flags: str, **changes: Any) -> Hello:
        """With that file, and it has to succeed."""
        self.write(**changes)
        self.server.ok("deploy", *flags, cwd=self.directory)
        return self

    def request(self, path: str = "/", method: str = "GET") -> Reply:
        return self.server.request(self.host, path, method)

    @property
    def replicas(self) -> list[dict[str, Any]]:
        return self.server.replicas(self.name)

    @property
    def ids(self) -> list[str]:
        return [replica["id"] for replica in self.replicas]

    def pid(self, replica: str) -> int:
        return self.server._do(self.server.site.pid(self.server.running, replica), 30)

    def kill(self, replica: str) -> None:
        self.server._do(self.server.site.kill(self.server.running, replica), 30)

    def environment(self, replica: str) -> dict[str, str]:
        """Of the running process, as the kernel has it."""
        words = Path(f"/proc/{self.pid(replica)}/environ").read_bytes().decode().split("\0")
        return dict(word.split("=", 1) for word in words if word)


def until(holds: Callable[[], bool], timeout: float = 20.0) -> None:
    """Waits until a condition holds, looking every 20 ms. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout:g} s: {holds}")
        time.sleep(0.02)
