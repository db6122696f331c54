"""What HAProxy itself has to do for a request, in instructions: .venv/bin/python bench/instructions.py

The file that rota writes, and the one written by hand that bench/balancer.py sets beside it, each in one thread under
valgrind's callgrind, which counts what the program does and not how long it takes: the same however busy the machine
is, within half a percent. What the kernel does for a request comes on top and is the same for both, so that the ratio
of times is nearer to 1. Limit: 1.03."""

from __future__ import annotations

import argparse
import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import peers
from balancer import HEADERS, HOST, RESPONDER
from open_loop import END

from rota.adapters.balancer.haproxy.config import render
from rota.adapters.balancer.haproxy.maps import maps_of
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import App, Server, State
from rota.adapters.balancer.haproxy.succession import PASSED_MAP
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.testing.haproxy import binary_of, pool
from rota.testing.server import free_port

LIMIT = 1.03
FEW, MANY = 200, 1200
_PATIENCE = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", choices=["system", "bundled"], default="system")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    if not peers.found("valgrind"):
        print("valgrind is not installed: apt-get install --no-install-recommends valgrind", file=sys.stderr)
        return 2
    found = _measure(binary_of(given.binary))
    ratio = found["rota"] / found["bare"]
    results = {"instructions_a_request": found, "ratio": ratio, "limit": LIMIT, "within_limit": ratio <= LIMIT}
    text = f"rota {found['rota']:,.0f}, bare {found['bare']:,.0f} instructions a request: {ratio:.3f} (limit {LIMIT})"
    print(json.dumps(results) if given.json else text)
    return 0 if results["within_limit"] else 1


def _measure(haproxy: str) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="rota-") as name:
        where, replica = Path(name), free_port()
        responder = where / "responder.cfg"
        responder.write_text(RESPONDER.replace("${PORT}", str(replica)))
        with peers.Peer("the replica", [haproxy, "-f", str(responder)], where, replica):
            made = {"rota": _rotas(where / "rota", replica), "bare": _bare(haproxy, where / "bare", replica)}
            return {file: _of_one(haproxy, where / file, port) for file, port in made.items()}


def _rotas(directory: Path, replica: int) -> int:
    directory.mkdir()
    port, backend = free_port(), pool("/health", "balanced")
    app = App("balanced").prepared(backend, (HOST,))
    app = app.with_server(Server(ReplicaId("balanced-1"), backend.name, Address("127.0.0.1", replica)))
    state = State().with_app(app)
    text = render(state, Settings(directory, (f"127.0.0.1:{port}",), maxconn=500), "c0ffee")
    for name, content in {"haproxy.cfg": text, PASSED_MAP: "", **maps_of(state)}.items():
        (directory / name).write_text(content)
    return port


def _bare(haproxy: str, directory: Path, replica: int) -> int:
    port = free_port()
    behind = peers.Behind(HOST, [f"127.0.0.1:{replica}"], 1, 500)
    peers.bare_haproxy("bare", haproxy, directory, port, behind)
    return port


def _of_one(haproxy: str, directory: Path, port: int) -> float:
    """Of one more request: what the start costs is in both runs."""
    file = directory / "haproxy.cfg"
    text = re.sub(r"  nbthread .*\n", "", file.read_text()).replace("global\n", "global\n  nbthread 1\n", 1)
    file.write_text(re.sub(r" inter \S+", " inter 1h", text))  # else a slower run has more checks in it
    return (_counted(haproxy, directory, port, MANY) - _counted(haproxy, directory, port, FEW)) / (MANY - FEW)


def _counted(haproxy: str, directory: Path, port: int, requests: int) -> int:
    out = directory / f"callgrind.{requests}"
    tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    with (directory / "output.log").open("ab") as log:
        process = subprocess.Popen([*tool, haproxy, "-db", "-f", "haproxy.cfg"], cwd=directory, stdout=log, stderr=log)
    try:
        _ask(port, requests)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(_PATIENCE)
    counted = re.search(r"^(?:summary|totals): (\d+)", out.read_text(), re.MULTILINE)
    if counted is None:
        raise RuntimeError(f"callgrind counted nothing: {(directory / 'output.log').read_text()[-2000:]}")
    return int(counted[1])


def _ask(port: int, requests: int) -> None:
    """One after the other over one connection."""
    wire = "\r\n".join([f"GET / HTTP/1.1\r\nHost: {HOST}", *HEADERS, "", ""]).encode()
    with _connected(port) as line:
        line.settimeout(_PATIENCE)
        for _ in range(requests):
            line.sendall(wire)
            _hear(line)


def _connected(port: int) -> socket.socket:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port))
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _hear(line: socket.socket) -> None:
    heard = b""
    while not heard.endswith(END):
        piece = line.recv(65536)
        if not piece:
            raise ConnectionError(f"the connection was closed after {heard!r}")
        heard += piece


if __name__ == "__main__":
    sys.exit(main())
