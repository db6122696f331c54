"""Starts the example app as a real process for the tests beside this file."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

APP = Path(__file__).parents[2] / "examples" / "hello" / "app.py"


@dataclass
class Hello:
    """A running example app; `port` is 0 when it does not listen."""

    process: subprocess.Popen[str]
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


StartHello = Callable[..., Hello]


@pytest.fixture
def start_hello() -> Iterator[StartHello]:
    """Starts the app with these variables; `listens=False` does not wait for its port."""
    started: list[subprocess.Popen[str]] = []

    def start(listens: bool = True, **variables: str) -> Hello:
        process = subprocess.Popen(
            [sys.executable, str(APP)],
            env={
                "PATH": os.environ["PATH"],
                "PORT": "0",
                "ROTA_REPLICA": "r1",
                "ROTA_RELEASE": "7",
                **variables,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline() if listens else ""
        return Hello(process, int(line.rpartition(":")[2]) if listens else 0)

    yield start
    for process in started:
        process.kill()
        process.communicate()
