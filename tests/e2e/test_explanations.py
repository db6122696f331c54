"""Every failed replica of a real server says why, and what may help."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import new_hello
from tests.e2e.running import Hello, Server

from rota.testing.server import free_port

PYTHON = ["python3", "-c"]


@pytest.fixture(scope="module")
def app(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    """One that works; every deploy here fails, and goes back."""
    hello = new_hello(server, tmp_path_factory.mktemp("reasons") / "hello")
    yield hello.deployed(replicas=1)
    server.ok("remove", hello.name, "--yes", "--supersede")


def failing(app: Hello, code: int, **keys: object) -> str:
    """What the command says of a deploy that fails."""
    app.write(**{"replicas": 1, "stop_grace_period": "1s", **keys})  # type: ignore[arg-type]
    answer = app.deploy()
    assert answer.code == code, answer
    return answer.out


@pytest.mark.feature("R9")
def test_a_signal_is_named(app: Hello) -> None:
    text = failing(app, 5, command=[*PYTHON, "import os; os.kill(os.getpid(), 11)"])
    assert "it was ended by signal 11 (SIGSEGV)" in text


@pytest.mark.feature("R9", "H12")
def test_a_refused_database_is_named(app: Hello) -> None:
    port = free_port()
    program = f"""
import socket
try:
    socket.create_connection(("127.0.0.1", {port}))
except OSError as error:
    raise SystemExit(f"{{error}} 127.0.0.1:{port}")
"""
    text = failing(app, 5, command=["python3", "-c", program])
    assert f"a connection was refused (127.0.0.1 port {port}): is it running, and reachable from here?" in text


@pytest.mark.feature("R9")
def test_one_that_is_too_slow_says_by_how_much_and_what_would_fit(app: Hello) -> None:
    text = failing(app, 6, boot_timeout="3s", env={"HELLO_BOOT_SECONDS": "3"})
    assert re.search(r"it came up \S+ s too slow: set boot_timeout to [45] s", text), text


@pytest.mark.feature("R9")
def test_one_that_uses_too_much_memory_is_told_its_limit(app: Hello, component: Callable[[str], Path]) -> None:
    component("cgroups")
    text = failing(app, 5, command=[*PYTHON, "x = b'x' * 2**28"], resources={"memory": "48MiB"})
    assert "it was ended by the kernel: out of memory (its limit is 48 MiB)" in text
