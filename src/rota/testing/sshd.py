"""A real ``sshd`` on the loopback with keys of its own, and an ``ssh`` that knows them and nothing else of this
machine; used by the tests of engines over SSH. Its calls block."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rota.core.errors import Missing
from rota.testing.server import free_port

_PATIENCE = 20.0
_SEPARATION = Path("/run/sshd")  # Debian's sshd wants it as root, and its service makes it


class SshServer:
    """For this process's own user. ``known`` and ``authorized`` are the files of the two sides' trust; a test may
    change them."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self.directory = directory
        self.port = free_port()
        self.user = pwd.getpwuid(os.geteuid()).pw_name
        self.known, self.authorized = directory / "known_hosts", directory / "authorized_keys"
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, engine: str) -> str:
        """Of an engine (``unix://…``) there."""
        return f"ssh://{self.user}@127.0.0.1:{self.port}{engine.removeprefix('unix://')}"

    @property
    def path(self) -> str:
        """A PATH whose ``ssh`` is for this server."""
        return f"{self.directory}/bin:{os.environ.get('PATH', os.defpath)}"

    def prepare(self) -> None:
        """Its keys, and both sides' files."""
        for name in ("host", "user"):
            made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.directory / name)]
            subprocess.run(made, check=True, capture_output=True)
        self.known.write_text(f"[127.0.0.1]:{self.port} {(self.directory / 'host.pub').read_text()}")
        self.allow()
        ssh = {
            "IdentitiesOnly": "yes",
            "IdentityFile": self.directory / "user",
            "GlobalKnownHostsFile": "none",
            "UserKnownHostsFile": self.known,
        }
        sshd = {
            "AuthorizedKeysFile": self.authorized,
            "HostKey": self.directory / "host",
            "KbdInteractiveAuthentication": "no",
            "ListenAddress": f"127.0.0.1:{self.port}",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "PidFile": "none",
            "StrictModes": "no",  # the directory is in the machine's temporary one
            "UsePAM": "no",
        }
        for name, options in (("ssh_config", ssh), ("sshd_config", sshd)):
            (self.directory / name).write_text("".join(f"{key} {value}\n" for key, value in options.items()))
        wrapper = self.directory / "bin/ssh"
        wrapper.parent.mkdir()
        wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {self.directory}/ssh_config "$@"\n')
        wrapper.chmod(0o755)

    def allow(self, options: str = "") -> None:
        """The user's key, under these options."""
        self.authorized.write_text(f"{options} {(self.directory / 'user.pub').read_text()}".lstrip())

    def start(self) -> None:
        """Answers when it returns. Raises Missing with its log, TimeoutError."""
        if os.geteuid() == 0:
            _SEPARATION.mkdir(mode=0o755, exist_ok=True)
        log = self.directory / "sshd.log"
        command = [str(self._program), "-D", "-e", "-f", str(self.directory / "sshd_config")]
        with open(log, "ab") as written:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=written, stderr=written)
        deadline = time.monotonic() + _PATIENCE
        while not self._answers():
            if self._process.poll() is not None:
                raise Missing(f"sshd ended: {log.read_text()[-2000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"sshd does not answer: {log.read_text()[-2000:]}")
            time.sleep(0.02)

    def cut(self) -> None:
        """All its connections end at once, as when the network between is lost and found; it goes on."""
        self._signal(signal.SIGKILL)

    def stall(self) -> None:
        """All its connections fall silent, as when a firewall forgets them; new ones are taken."""
        self._signal(signal.SIGSTOP)

    def stop(self) -> None:
        """No connection is left, and no new one is taken."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP)  # it takes none between the two
            self._signal(signal.SIGKILL)
            self._process.kill()
            self._process.wait(_PATIENCE)

    def _signal(self, number: signal.Signals) -> None:
        """To what it has started."""
        assert self._process is not None
        for pid in _below(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=_PATIENCE) as asking:
                return asking.recv(4) == b"SSH-"
        except OSError:
            return False


def _below(pid: int) -> list[int]:
    """The processes that it has started, and those that they have."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [*children, *(one for child in children for one in _below(child))]


@contextmanager
def ssh_server(program: Path) -> Iterator[SshServer]:
    made = SshServer(program, Path(tempfile.mkdtemp(prefix="rota-")))
    try:
        made.prepare()
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.directory)
