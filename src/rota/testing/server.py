"""A real ``rota serve`` in a directory of its own, and its command line; used by end-to-end tests, benches and the
demo. Whatever it started is ended with it, also after a failure."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
import urllib.error
import urllib.request
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
START_TIMEOUT = 45.0  # seconds: much longer than it takes, on a machine that is busy with other tests too
END_TIMEOUT = 90.0  # seconds: replicas may take their stop_grace_period


class ServerBroken(Exception):
    """The server under test did not come up, or went away."""


@dataclass(frozen=True)
class Answer:
    """What one command printed and returned."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class RunningServer:
    """``async with RunningServer() as server: …``; several may run at once, each with ports of its own."""

    rota: tuple[str, ...] = (sys.executable, "-m", "rota")
    """What runs a command; the end-to-end tests have one that is loaded already."""

    def __init__(self, directory: Path | None = None, *options: str) -> None:
        self._own = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="rota-"))
        self.http_port, self.api_port = free_port(), free_port()
        self._options = options
        self._process: Process | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.end()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    @property
    def url(self) -> str:
        """Where users come in."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        path = self.directory / "daemon.log"
        return path.read_text() if path.exists() else ""

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to reach this server."""
        package = str(Path(sys.modules["rota"].__path__[0]).parent)
        keep = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        server = {"ROTA_SERVER": self.api, "ROTA_DATA_DIR": str(self.directory / "state")}
        return keep | server | {"PYTHONPATH": package, "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}

    async def start(self, **environment: str) -> float:
        """Starts the daemon; returns the seconds until it was in charge (ready)."""
        began = time.monotonic()
        with (self.directory / "daemon.log").open("a") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self.serve_command, stdin=DEVNULL, stdout=log, stderr=log, env=self.environment | environment
            )
        await self._until_ready()
        return time.monotonic() - began

    @property
    def serve_command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "rota",
            "serve",
            *("--data-dir", str(self.directory / "state")),
            *("--api", f"127.0.0.1:{self.api_port}"),
            *("--http", f"127.0.0.1:{self.http_port}"),
            *("--reload-interval", "1s"),  # tests deploy one new app after the other
            *self._options,
        ]

    async def kill(self) -> None:
        """SIGKILL to the daemon alone, as a crash would."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
        await self.ended()

    async def ended(self, timeout: float = 60.0) -> int:
        """Waits until the daemon has ended by itself; its exit code (negative: a signal)."""
        assert self._process is not None
        async with asyncio.timeout(timeout):
            return await self._process.wait()

    async def cli(self, *words: str, cwd: Path | None = None, timeout: float = 120.0, **environment: str) -> Answer:
        """One ``rota`` command, run to its end."""
        process = await self.begin_cli(*words, cwd=cwd, **environment)
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Answer(process.returncode, out.decode(), err.decode())

    async def begin_cli(self, *words: str, cwd: Path | None = None, **environment: str) -> Process:
        """One ``rota`` command, begun; the caller waits for it."""
        where = self.environment | environment
        return await asyncio.create_subprocess_exec(
            *self.rota, *words, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, env=where, cwd=cwd
        )

    async def ok(self, *words: str, cwd: Path | None = None, timeout: float = 120.0) -> Answer:
        """A command that has to succeed; raises ServerBroken with all that is known else."""
        answer = await self.cli(*words, cwd=cwd, timeout=timeout)
        if answer.code:
            said = f"rota {' '.join(words)} returned {answer.code}\n{answer.out}{answer.err}"
            raise ServerBroken(f"{said}\n--- the daemon's log\n{self.log[-4000:]}")
        return answer

    async def get(self, path: str) -> Any:
        """The API's answer to a GET, as JSON."""
        return await asyncio.to_thread(self._get, path)

    async def replicas(self, app: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get(f"/api/v1/apps/{app}/replicas"))["replicas"]
        return found

    async def until(self, holds: Callable[[], Awaitable[T]], timeout: float = 30.0) -> T:
        """Waits until a condition holds, looking every 10 ms; what it then gave. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not (found := await holds()):  # noqa: ASYNC110 - the condition is another process's: nobody sets an event
                await asyncio.sleep(0.01)
        return found

    async def is_ready(self) -> bool:
        """Whether store, runtime and HAProxy answer the daemon."""
        return await asyncio.to_thread(self._is_ready)

    def child(self, name: str) -> Mapping[str, Any]:
        """The keeper's record of one of its children (a replica, or ``haproxy``)."""
        record: Mapping[str, Any] = json.loads((self.directory / f"state/keeper/children/{name}.json").read_text())
        return record

    def kill_child(self, name: str) -> int:
        """SIGKILL to the main process of a replica or of HAProxy; returns its pid."""
        pid = int(self.child(name)["pid"])
        self.kill_pid(pid)
        return pid

    @contextlib.contextmanager
    def stopped(self) -> Iterator[None]:
        """The daemon does nothing at all as long as the block lasts, as under a debugger or on a machine that swaps."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)

    def kill_pid(self, pid: int) -> None:
        """SIGKILL to a process of this server."""
        os.kill(pid, signal.SIGKILL)

    def _get(self, path: str) -> Any:
        token = (self.directory / "state/admin.token").read_text().strip()
        request = urllib.request.Request(self.api + path, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - a loopback address of ours
            return json.loads(answer.read())

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.returncode is not None:
                raise ServerBroken(f"rota serve ended with {self._process.returncode}\n{self.log[-4000:]}")
            if await self.is_ready():
                return
            await asyncio.sleep(0.02)
        raise ServerBroken(f"rota serve is not ready after {START_TIMEOUT:g} s\n{self.log[-4000:]}")

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.api}/readyz", timeout=2) as answer:  # noqa: S310 - loopback
                return bool(answer.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    async def end(self) -> None:
        """Everything that this server started, by ``rota shutdown`` or, where that fails, by pid."""
        try:
            if self._process is None or self._process.returncode is not None:
                await self.start()
            await self.ok("shutdown", timeout=END_TIMEOUT)
            await self.ended(END_TIMEOUT)
        except (ServerBroken, TimeoutError):
            self._end_by_pid()
        finally:
            if self._process is not None and self._process.returncode is None:
                self._process.kill()
                await self._process.wait()
            if self._own:
                shutil.rmtree(self.directory, ignore_errors=True)

    def _end_by_pid(self) -> None:
        """The keeper first, which would start HAProxy again; then what it had started."""
        pids = [keeper_pid(self.directory / "state")]
        for path in sorted((self.directory / "state/keeper/children").glob("*.json")):
            record = json.loads(path.read_text())
            if record.get("state") == "running":
                pids.append(int(record["pid"]))
        for pid in filter(None, pids):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def keeper_pid(data_dir: Path) -> int | None:
    """The pid of the keeper of a data directory; None when there is none."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        try:
            asking.connect(str(data_dir / "keeper.sock"))
            asking.sendall(b'{"id": 1, "op": "list"}\n')
            return int(json.loads(asking.makefile().readline())["keeper"]["pid"])
        except (OSError, ValueError, KeyError):
            return None


def free_port() -> int:
    """A TCP port of the loopback that nobody has at this moment, outside the range of the replicas' ports."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
