"""The command line without the second that each ``rota`` command takes to load: a process that has loaded it all forks
for every command; used by the tests here, whose commands are many.

    warm = WarmCommands(directory)
    subprocess.run([*warm.command, "ps", "--json"], ...)

What runs is ``rota.__main__.main`` in a process of its own with the caller's streams, directory, arguments and
environment, and its exit code comes back. Where loading itself matters (start-up time, a terminal) the real command is
run."""

from __future__ import annotations

import gc
import importlib
import marshal
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

_STREAMS = 3


class WarmCommands:
    """Starts the process that forks; it ends with this one, or with ``close``."""

    def __init__(self, directory: Path) -> None:
        """``directory`` exists; its path is short enough for a Unix socket's."""
        address = directory / "warm.sock"
        client = str(Path(__file__).with_name("warm_client.py"))
        # Without site packages it starts in a tenth of the time; it needs nothing but two built-in modules.
        self.command = (sys.executable, "-I", "-S", client, str(address))
        self._process = subprocess.Popen(
            [sys.executable, __file__, str(address)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"warm\n":
            raise RuntimeError("the commands could not be loaded")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class _Forking:
    """The loop of the process that has loaded everything: a connection is a command."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._selector = selectors.DefaultSelector()
        self._children: dict[int, tuple[int, socket.socket]] = {}

    def run(self) -> None:
        """Until nobody holds the other end of standard input."""
        self._selector.register(0, selectors.EVENT_READ)
        self._selector.register(self._listener, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select():
                if key.fileobj == 0:
                    return
                if key.fileobj is self._listener:
                    self._begin(self._listener.accept()[0])
                elif isinstance(key.fileobj, socket.socket):
                    self._left(key.fileobj)
                else:
                    self._ended(key.fd)

    def _begin(self, asking: socket.socket) -> None:
        order, streams = _received(asking)
        pid = os.fork()
        if pid == 0:
            self._listener.close()
            asking.close()
            _become(order, streams)
        for stream in streams:
            os.close(stream)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = (pid, asking)
        self._selector.register(pidfd, selectors.EVENT_READ)
        self._selector.register(asking, selectors.EVENT_READ)
        asking.sendall(b"%d\n" % pid)

    def _left(self, asking: socket.socket) -> None:
        """Whoever asked has ended: its command is not to go on without it."""
        self._selector.unregister(asking)
        for pidfd, (_, of) in self._children.items():
            if of is asking:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def _ended(self, pidfd: int) -> None:
        pid, asking = self._children.pop(pidfd)
        _, status = os.waitpid(pid, 0)
        self._selector.unregister(pidfd)
        os.close(pidfd)
        with suppress(KeyError):
            self._selector.unregister(asking)
        with suppress(OSError):
            asking.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
        asking.close()


def _received(asking: socket.socket) -> tuple[Any, list[int]]:
    size, streams, _, _ = socket.recv_fds(asking, 8, _STREAMS)
    left, parts = int.from_bytes(size, "big"), b""
    while len(parts) < left:
        parts += asking.recv(left - len(parts))
    return marshal.loads(parts), streams  # noqa: S302 - from a process of the same test


def _become(order: Any, streams: list[int]) -> None:
    """Runs the command in place of this process; does not return."""
    code = 1
    try:
        words, environment, directory = order
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["rota", *words]
        from rota.__main__ import main

        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        for written in (sys.stdout, sys.stderr):
            with suppress(OSError):
                written.flush()
        os._exit(code)


def serve(address: str) -> None:
    import rota.cli
    import rota.core.specfile

    for module in pkgutil.walk_packages(rota.cli.__path__, "rota.cli."):
        importlib.import_module(module.name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        gc.freeze()
        sys.stdout.write("warm\n")
        sys.stdout.flush()
        _Forking(listener).run()


if __name__ == "__main__":
    serve(sys.argv[1])
