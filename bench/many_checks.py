"""As many health checks a second as HAProxy gets through, in the HAProxy of a real server, beside its apps: the
servers that are checked are in a second file, which a program named haproxy adds to every one that rota starts.
Used by bench/health_checks.py."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_INTERVAL = 0.01  # seconds between two checks of a server: less than a file may have, so that few servers do
_MORE = 1.5  # an interval is counted from a check's end, and a check takes its time
_LISTENERS = 4
_PATIENCE = 10.0
_POOL = "steady"


@dataclass(frozen=True)
class ManyChecks:
    """``programs`` goes before PATH where rota looks for HAProxy. The checks are off at first."""

    programs: Path
    servers: int
    _counters: Path

    def switch(self, stats: Path, on: bool) -> None:
        """In the HAProxy whose socket this is."""
        word = "enable" if on else "disable"
        for number in range(self.servers):
            _ask(stats, f"{word} server {_POOL}.0/{_POOL}-{number}")

    def answered(self) -> int:
        """Checks that have been answered until now."""
        said = _ask(self._counters, "show info").splitlines()
        return next(int(line.partition(":")[2]) for line in said if line.startswith("CumReq:"))


@contextmanager
def many_checks(directory: Path, a_second: int) -> Iterator[ManyChecks]:
    """The responder, another HAProxy that answers by itself, ends with the block."""
    program = shutil.which("haproxy")
    if program is None:
        raise FileNotFoundError("haproxy is missing (apt-get install haproxy)")
    ports = [_free_port() for _ in range(_LISTENERS)]
    made = ManyChecks(directory / "programs", round(_MORE * a_second * _INTERVAL), directory / "responder.sock")
    _write(directory, made, ports, program)
    responder = subprocess.Popen([program, "-db", "-f", "responder.cfg"], cwd=directory)
    try:
        _until_it_answers(ports[-1])
        yield made
    finally:
        responder.kill()
        responder.wait()


def _write(directory: Path, made: ManyChecks, ports: list[int], program: str) -> None:
    binds = "\n".join(f"  bind 127.0.0.1:{port}" for port in ports)
    (directory / "responder.cfg").write_text(f"""\
global
  maxconn 2000
  nbthread 1
  stats socket unix@{made._counters} mode 600 level admin
defaults
  mode http
  timeout client 10s
frontend all
{binds}
  http-request return status 200
""")
    servers = "\n".join(f"  server {_POOL}-{n} 127.0.0.1:{ports[n % _LISTENERS]} check" for n in range(made.servers))
    (directory / "steady.cfg").write_text(f"""\
backend {_POOL}.0
  mode http
  timeout server 10s
  timeout check 5s
  option httpchk
  http-check send meth GET uri /health ver HTTP/1.1 hdr Host steady.localhost
  default-server disabled inter {_INTERVAL * 1000:.0f}
{servers}
""")
    made.programs.mkdir()
    wrapper = made.programs / "haproxy"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$1" in -v) exec {program} -v;; esac\nexec {program} "$@" -f {directory}/steady.cfg\n'
    )
    wrapper.chmod(0o755)


def _until_it_answers(port: int) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _ask(place: Path, command: str) -> str:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(5)
        asking.connect(str(place))
        asking.sendall(f"{command}\n".encode())
        return asking.makefile().read()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
