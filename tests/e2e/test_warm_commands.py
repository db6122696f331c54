"""A command that is forked from what is loaded does what the command does."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.warm import WarmCommands

from rota.testing.machine import until

REAL = (sys.executable, "-m", "rota")


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmCommands]:
    with tempfile.TemporaryDirectory(prefix="rota-") as directory:
        made = WarmCommands(Path(directory))
        yield made
        made.close()


def ran(command: tuple[str, ...], words: tuple[str, ...], cwd: Path) -> tuple[int, str, str]:
    environment = {"PATH": os.environ["PATH"], "ROTA_SERVER": "http://127.0.0.1:1", "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "words", [("--version",), ("validate",), ("ps",), ("deploy", "--detach"), ("nonsense",), ("schema",)], ids=" ".join
)
def test_it_is_what_the_command_is(words: tuple[str, ...], warm: WarmCommands, tmp_path: Path) -> None:
    (tmp_path / "rota.yaml").write_text("name: web\nreplicas: zero\n")
    assert ran(warm.command, words, tmp_path) == ran(REAL, words, tmp_path)


def test_one_command_leaves_nothing_to_the_next(warm: WarmCommands, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "rota.yaml").write_text("name: web\ncommand: [./run]\n")
    assert ran(warm.command, ("validate",), tmp_path)[0] == 0
    assert ran(warm.command, ("validate",), tmp_path / "other")[0] != 0


async def test_who_gives_up_waiting_ends_the_command(warm: WarmCommands, tmp_path: Path) -> None:
    """It reads a file that nobody writes to its end."""
    os.mkfifo(tmp_path / "rota.yaml")
    begun = await asyncio.create_subprocess_exec(*warm.command, "validate", cwd=tmp_path, stdin=subprocess.DEVNULL)
    writer = await asyncio.to_thread(os.open, tmp_path / "rota.yaml", os.O_WRONLY)  # once the command has it open
    begun.kill()
    await begun.wait()

    def nobody_reads() -> bool:
        try:
            os.write(writer, b"\n")
        except BrokenPipeError:
            return True
        return False

    await until(nobody_reads)
    os.close(writer)
