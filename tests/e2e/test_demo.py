"""bin/demo, as a newcomer runs it."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.load
@pytest.mark.feature("R1", "S1", "V6")
def test_the_demo_ends_with_nothing_lost_and_leaves_nothing_behind() -> None:
    with tempfile.TemporaryDirectory(prefix="rota-") as place:  # pytest's own are too long for a Unix socket
        directory = Path(place)
        show(directory)
        assert list(directory.iterdir()) == []
        assert running_below(directory) == []


def show(directory: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(directory)}
    done = subprocess.run(
        [ROOT / "bin/demo"], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.fullmatch(r"demo: [1-9]\d{2,} requests, 0 lost", done.stdout.splitlines()[-1])
    assert len(re.findall(r"^0 failed of [1-9][\d,]* requests", done.stdout, re.MULTILINE)) == 2


def running_below(directory: Path) -> list[str]:
    """The command lines of processes that name something below a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if str(directory) in line:
            found.append(line)
    return found
