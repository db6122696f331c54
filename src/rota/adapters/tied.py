"""A process that does not outlive the one that started it, not even when that is killed: the courier, and by this file
run as a program what is no Python: ``tied.py PARENT PROGRAM ARGUMENT…`` becomes that program."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1  # prctl(2): kept over execve, unless the program has rights of its own
_COMMAND = (sys.executable, "-I", "-S", os.path.abspath(__file__))  # wherever it is started, and at once


def tied(command: Sequence[str]) -> tuple[str, ...]:
    """The command, for this process to start; it has to do so in a thread that lasts as long as itself, since the
    kernel goes by that."""
    return (*_COMMAND, str(os.getpid()), *command)


def end_with(parent: int) -> None:
    """This process is killed when ``parent``, which has started it, ends; ends now if that has happened already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606 - no shell is what it is for
