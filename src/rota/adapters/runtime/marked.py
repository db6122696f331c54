"""The processes of one command among those of a machine, and their end; used by the runtimes' exec.

All of them inherit a mark in their environment, so that one whose parents have ended is found too."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

_NAME = "ROTA_EXEC"
_PATIENCE = 1.0  # seconds for a tree that goes on forking
_LOOK_AGAIN = 0.005


@dataclass(frozen=True)
class Mark:
    value: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def variables(self) -> dict[str, str]:
        return {_NAME: self.value}

    def is_on(self, pid: int) -> bool:
        """False for a process that has ended, or that another user may look at only."""
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return f"{_NAME}={self.value}".encode() in file.read().split(b"\0")
        except OSError:
            return False


def end(mark: Mark, candidates: Callable[[], Iterable[int]], others: Iterable[int] = ()) -> None:
    """Kills the ``others``, and those of the candidates that carry the mark until none is left; blocks for up to a
    second."""
    deadline = time.monotonic() + _PATIENCE
    for pid in others:
        _kill(pid, lambda pid: True)
    while sum(_kill(pid, mark.is_on) for pid in candidates()) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN)


def _kill(pid: int, belongs: Callable[[int], bool]) -> bool:
    if not belongs(pid):
        return False
    with suppress(OSError):
        pidfd = os.pidfd_open(pid)
        try:
            if belongs(pid):  # looked at again: the number may have become another's before it was held
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                return True
        finally:
            os.close(pidfd)
    return False
