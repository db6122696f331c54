"""What is tied to a process ends with it, however that one ends, and never before."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

from rota.adapters.tied import tied

STARTER = """
import subprocess, sys
from rota.adapters.tied import tied
child = subprocess.Popen(tied(["sleep", "60"]), start_new_session=True)
print(child.pid, flush=True)
sys.stdin.read()
"""


def ended(pidfd: int, timeout: float) -> bool:
    return bool(select.select([pidfd], [], [], timeout)[0])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_program_does_not_outlive_who_started_it(number: signal.Signals) -> None:
    command = [sys.executable, "-c", STARTER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        pidfd = os.pidfd_open(int(starter.stdout.readline()))
        try:
            assert not ended(pidfd, 0)
            starter.send_signal(number)
            assert ended(pidfd, 20)
        finally:
            os.close(pidfd)


def test_who_comes_too_late_does_not_begin() -> None:
    """Its parent had ended before it could be tied to it, so that another is its parent now."""
    python, isolated, bare, file, _, *command = tied(["echo", "begun"])
    late = subprocess.run([python, isolated, bare, file, "1", *command], capture_output=True, check=False)
    assert (late.returncode, late.stdout) == (1, b"")
    begun = subprocess.run(tied(["echo", "begun"]), capture_output=True, check=True)
    assert begun.stdout == b"begun\n"
