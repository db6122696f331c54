"""A private Docker engine for tests, and a docker runtime on it; used by the contract suite, the adapter's tests and
the end-to-end tests. Works as root only: ``dockerd`` needs mounts, namespaces and a bridge."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from rota.core.errors import Missing
from rota.testing import images

_PATIENCE = 30.0
BUSYBOX = "test/busybox:1"
HELLO = "test/hello:1"


class DockerEngine:
    """A ``dockerd`` with directories, socket, address pool and control groups of its own. It changes no packet filter
    and no setting of the machine's network: containers are reached from this machine, and reach nothing beyond it.
    Its calls block."""

    def __init__(self, directory: Path, *, live_restore: bool = False) -> None:
        self.directory = directory
        self.live_restore = live_restore
        self.host = f"unix://{directory}/d.sock"
        self._pool = f"10.{random.randrange(128, 256)}.{random.randrange(16) * 16}.0/20"  # noqa: S311  (no secret)
        self._cgroup = f"/{directory.name}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's own. Raises Missing while it does not run."""
        if self._process is None:
            raise Missing("the engine does not run")
        return self._process.pid

    def start(self) -> Self:
        """Answers when it returns. Raises TimeoutError, or Missing with the end of its log."""
        (self.directory / "d.pid").unlink(missing_ok=True)
        config = self.directory / "daemon.json"
        config.write_text(json.dumps({"deprecated-key-path": str(self.directory / "key.json")}))
        written = self.directory / "dockerd.log"
        with open(written, "ab") as log:
            self._process = subprocess.Popen(
                self._command(config), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None:
                raise Missing(f"dockerd ended: {written.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"dockerd does not answer: {written.read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """SIGTERM, as a service manager does; with live_restore the containers run on."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL of the daemon alone: containerd and the containers are left as they are."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

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

    def import_hello(self, app: Path, name: str = HELLO) -> str:
        """The id of an image that runs a directory's ``app.py`` as a user without rights."""
        changes = ("WORKDIR /app", "USER 1000", "ENV HOST=0.0.0.0", 'CMD ["python3", "app.py"]')
        return self.import_image(name, images.python_app(app), *changes)

    def clear(self) -> None:
        """No container, no network of anybody's, no volume; images stay."""
        for what, flags, removal in (
            ("ps", ["-aq"], ["rm", "-fv"]),
            ("network", ["ls", "-q", "--filter", "type=custom"], ["network", "rm"]),
            ("volume", ["ls", "-q"], ["volume", "rm"]),
        ):
            found = self.docker(what, *flags).split()
            if found:
                self.docker(*removal, *found)

    def end(self) -> None:
        """Nothing is left of it: no process, no bridge, no mount, no control group, no file."""
        if self._process is None or self._process.poll() is not None:
            self.start()
        self.clear()
        self.stop()
        self._sweep()

    def _command(self, config: Path) -> Sequence[str]:
        place = self.directory
        options = {
            "--config-file": config,
            "--data-root": place / "data",
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
        if self.live_restore:
            switches.append("--live-restore")
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
            return bool(self._cli(("version", "--format", "{{.Server.Version}}")).stdout)
        except subprocess.CalledProcessError:
            return False

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)
            self._process.wait(_PATIENCE)

    def _sweep(self) -> None:
        # containerd outlives a daemon that was killed; the next daemon takes it over, and may leave it behind.
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int((self.directory / "x/containerd/containerd.pid").read_text()), signal.SIGTERM)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            mounted = line.split()[4]
            if mounted.startswith(f"{self.directory}/"):
                subprocess.run(["umount", "-l", mounted], check=True, capture_output=True)
        for controller in Path("/sys/fs/cgroup").glob("*/"):
            with suppress(OSError):
                (controller / self._cgroup.lstrip("/")).rmdir()
        shutil.rmtree(self.directory)


@contextmanager
def docker_engine(*, live_restore: bool = False) -> Iterator[DockerEngine]:
    """A running engine with BUSYBOX in it, on a short path (a Unix socket's is at most 107 bytes long)."""
    engine = DockerEngine(Path(tempfile.mkdtemp(prefix="rota-")), live_restore=live_restore)
    try:
        engine.start()
        engine.import_busybox()
        yield engine
    finally:
        engine.end()
