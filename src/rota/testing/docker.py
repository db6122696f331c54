"""A private Docker engine for tests, and a docker runtime on it; used by the contract suite, the adapter's tests and
the end-to-end tests. Works as root only: ``dockerd`` needs mounts, namespaces and a bridge."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Self

from rota.core.errors import Missing
from rota.testing import images
from rota.testing.server import free_port
from rota.testing.tls import Authority

_PATIENCE = 30.0
_BUSY = 2.0  # seconds that a mount may take to go by itself
BUSYBOX = "test/busybox:1"
HELLO = "test/hello:1"
_TLS_FILES = {"cacert": "ca", "cert": "cert", "key": "key"}


class DockerEngine:
    """A ``dockerd`` with directories, socket, address pool and control groups of its own. It changes no packet filter
    and no setting of the machine's network: containers are reached from this machine, and reach nothing beyond it.
    Its calls block."""

    def __init__(self, directory: Path, *, live_restore: bool = False, tls: bool = False) -> None:
        self.directory = directory
        self._live_restore = live_restore
        self.host = f"unix://{directory}/d.sock"
        self._pool = f"10.{random.randrange(128, 256)}.{random.randrange(16) * 16}.0/20"  # noqa: S311  (no secret)
        self._cgroup = f"/{directory.name}"
        self._process: subprocess.Popen[bytes] | None = None
        self.tls_host = f"tcp://127.0.0.1:{free_port()}" if tls else ""
        """A second way in, for whoever has the certificates in ``client``."""

    @property
    def client(self) -> Path:
        """What DOCKER_CERT_PATH is to be, with ``tls_host``."""
        return self.directory / "client"

    @property
    def disk(self) -> Path:
        """Where it keeps images and containers."""
        return self.directory / "data"

    @property
    def pid(self) -> int:
        """The daemon's own. Raises Missing while it does not run."""
        if self._process is None:
            raise Missing("the engine does not run")
        return self._process.pid

    def start(self) -> Self:
        """Answers when it returns. Raises TimeoutError, or Missing with the end of its log."""
        (self.directory / "d.pid").unlink(missing_ok=True)
        if not self._pids("containerd"):  # it ends with a daemon that was killed, and its record would be believed
            (self.directory / "x/containerd/containerd.pid").unlink(missing_ok=True)
        self._configure()
        written = self.directory / "dockerd.log"
        with open(written, "ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None:
                raise Missing(f"dockerd ended: {written.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"dockerd does not answer: {written.read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    @property
    def live_restore(self) -> bool:
        """Whether containers run on while the daemon does not: the one that goes down decides."""
        return self._live_restore

    def switch_live_restore(self, *, on: bool) -> None:
        """While it runs. Raises TimeoutError when it does not take it."""
        self._live_restore = on
        self._configure()
        os.kill(self.pid, signal.SIGHUP)
        deadline = time.monotonic() + _PATIENCE
        while self._ask("GET", "/info")["LiveRestoreEnabled"] is not on:
            if time.monotonic() > deadline:
                raise TimeoutError("dockerd does not take another live-restore")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM, as a service manager does; with live_restore the containers run on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL: its containerd ends with it, the containers run on without either."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def switch_off(self) -> None:
        """It and all its containers end in one moment, as with the machine, and of its directory only what a disk holds
        is left; ``start`` is of the next boot."""
        bridges = [
            f"br-{network['Id'][:12]}" for network in self._ask("GET", "/networks") if network["Driver"] == "bridge"
        ]
        self.kill()
        self._end_all()
        self._unmount()
        for bridge in bridges:
            here = Path("/sys/class/net", bridge)
            # Of a start that was cut short both ends of its link are left; all others go with their container, by now.
            for port in here.glob("brif/*"):
                subprocess.run(["ip", "link", "delete", port.name], check=False, capture_output=True)
            if here.exists():
                subprocess.run(["ip", "link", "delete", bridge], check=True, capture_output=True)
        shutil.rmtree(self.directory / "x")

    def docker(self, *words: str) -> str:
        """The output of a command of the docker CLI. Raises CalledProcessError."""
        return self._cli(words).stdout.decode().strip()

    async def cli(self, *words: str) -> str:
        """The same beside the event loop."""
        return await asyncio.to_thread(self.docker, *words)

    def import_image(self, name: str, tar: Path, *changes: str) -> str:
        """The id of a new image with this root; ``changes`` are Dockerfile instructions."""
        options = [word for change in changes for word in ("-c", change)]
        return self.docker("import", *options, str(tar), name)

    def import_busybox(self) -> str:
        return self.import_image(BUSYBOX, images.busybox(), 'CMD ["sleep", "60"]')

    def import_hello(self, app: Path, name: str = HELLO, *more: str) -> str:
        """The id of an image that runs a directory's ``app.py`` as a user without rights; ``more`` changes."""
        changes = ("WORKDIR /app", "USER 1000", "ENV HOST=0.0.0.0", 'CMD ["python3", "app.py"]', *more)
        return self.import_image(name, images.python_app(app), *changes)

    def clear(self) -> None:
        """No container, no network of anybody's, no volume; images stay."""
        for container in self._ask("GET", "/containers/json?all=1"):
            self._remove(container["Id"])
        for network in self._ask("GET", "/networks?filters=%7B%22type%22%3A%5B%22custom%22%5D%7D"):
            self._ask("DELETE", f"/networks/{network['Id']}")
        for volume in self._ask("GET", "/volumes")["Volumes"] or ():
            self._ask("DELETE", f"/volumes/{volume['Name']}")

    def end(self) -> None:
        """Nothing is left of it: no process, no bridge, no mount, no control group, no file. Its own removals are not
        relied on: at times one that is refused stays so, for a root's mount or an endpoint that no container has
        (Docker 20.10)."""
        try:
            if self._process is None or self._process.poll() is not None:
                self.start()  # nobody else knows its bridges
            self.switch_off()
        finally:
            self.kill()
            self._end_all()
            self._unmount()
            shutil.rmtree(self.directory)

    def _configure(self) -> None:
        config = {"deprecated-key-path": str(self.directory / "key.json"), "live-restore": self._live_restore}
        (self.directory / "daemon.json").write_text(json.dumps(config))

    def _command(self) -> Sequence[str]:
        place = self.directory
        options = {
            "--config-file": place / "daemon.json",
            "--data-root": self.disk,
            "--exec-root": place / "x",
            "--pidfile": place / "d.pid",
            "--host": self.host,
            "--storage-driver": "overlay2",
            "--bridge": "none",
            "--default-address-pool": f"base={self._pool},size=25",
            "--cgroup-parent": self._cgroup,
        }
        program = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise Missing("dockerd is missing (apt-get install docker.io)")
        switches = ["--iptables=false", "--ip-forward=false", "--ip-masq=false", "--userland-proxy=false"]
        if self.tls_host:
            files = [f"--tls{what}={place}/tls/{name}.pem" for what, name in _TLS_FILES.items()]
            switches += [f"--host={self.tls_host}", "--tlsverify", *files]
        return [program, *(f"{name}={value}" for name, value in options.items()), *switches]

    def _cli(self, words: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        argv = ["docker", "--config", str(self.directory / "cli"), "--host", self.host, *words]
        try:
            return subprocess.run(argv, check=True, capture_output=True, timeout=120)
        except subprocess.CalledProcessError as error:
            error.add_note(error.stderr.decode().strip())
            raise

    def _answers(self) -> bool:
        try:
            return bool(self._ask("GET", "/version"))
        except (OSError, HTTPException):
            return False

    def _remove(self, container: str) -> None:
        """Until it is gone, or until only its root's mount is left, which a stop of the engine leaves at times (seen
        with Docker 20.10) and no later daemon takes down: it runs nothing then, and ``end`` unmounts what is left."""
        began = time.monotonic()
        while True:
            try:
                self._ask("DELETE", f"/containers/{container}?force=1&v=1")
                return
            except HTTPException as refusal:
                if "No such container" in str(refusal):
                    return
                waited = time.monotonic() - began
                if "device or resource busy" in str(refusal) and waited > _BUSY:
                    return
                if waited > _PATIENCE:
                    raise
            time.sleep(0.05)

    def _ask(self, method: str, path: str) -> Any:
        """A request of the API: the docker command takes 50 ms for each. Raises OSError, HTTPException."""
        connection = HTTPConnection("localhost", timeout=_PATIENCE)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(self.host.removeprefix("unix://"))
            connection.request(method, path)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise HTTPException(f"{method} {path}: {content.decode()}")
        return json.loads(content) if content else None

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(_PATIENCE)

    def _end_all(self) -> None:
        """Containers and what keeps them, and their control groups."""
        deadline = time.monotonic() + _PATIENCE
        # What was being started when a daemon was ended is nobody's any more, not even the next daemon's.
        while left := {*self._pids("containerd", "containerd-shim-runc-v2"), *self._contained()}:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"pids {left} do not end")
            time.sleep(0.02)
        for group in self._groups():
            with suppress(OSError):
                group.rmdir()

    def _unmount(self) -> None:
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            mounted = line.split()[4]
            if mounted.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", mounted], check=True, capture_output=True)

    def _pids(self, *programs: str) -> frozenset[int]:
        """Living processes of this engine, by the program's name and the directory in their arguments."""
        found: set[int] = set()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with suppress(OSError):
                    words = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")
                    ours = any(str(self.directory).encode() in word for word in words)
                    if ours and Path(os.fsdecode(words[0])).name in programs:
                        found.add(int(entry))
        return frozenset(found)

    def _contained(self) -> frozenset[int]:
        """Living processes of containers."""
        found: set[int] = set()
        for group in self._groups():
            with suppress(OSError):
                found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
        return frozenset(found)

    def _groups(self) -> list[Path]:
        """The control groups of the engine and its containers, the inner ones first."""
        name = self._cgroup.lstrip("/")
        return [*Path("/sys/fs/cgroup").glob(f"*/{name}/*/"), *Path("/sys/fs/cgroup").glob(f"*/{name}/")]


@contextmanager
def docker_engine(*, live_restore: bool = False, disk: int = 0, tls: bool = False) -> Iterator[DockerEngine]:
    """A running engine with BUSYBOX in it, on a short path (a Unix socket's is at most 107 bytes long); with ``disk``
    all that it keeps is on a file system of so many MiB, with ``tls`` it listens at a TCP port too."""
    engine = DockerEngine(Path(tempfile.mkdtemp(prefix="rota-")), live_restore=live_restore, tls=tls)
    try:
        if tls:
            authority = Authority("engine's")
            authority.engine(engine.directory / "tls")
            authority.client(engine.client)
        if disk:
            engine.disk.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk}m", "rota-test", engine.disk], check=True)
        engine.start()
        engine.import_busybox()
        yield engine
    finally:
        engine.end()
