"""The end of a container's main process, as the kernel tells it; kept by the table for an engine of this machine.

The engine's own word comes later: it asks the shim, has the task deleted and reads its streams to their end before it
tells anybody, and requests go to the dead meanwhile. How it ended only the engine knows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from rota.adapters.runtime.docker.inspection import Inspection
from rota.adapters.runtime.docker.processes import groups_of


@dataclass(frozen=True)
class _Watched:
    run: str
    pidfd: int


class Endings:
    """``ended(container, run)`` is called when the main process of that run has ended, and with it all others of its
    PID namespace (pid_namespaces(7))."""

    def __init__(self, ended: Callable[[str, str], None]) -> None:
        self._ended = ended
        self._watched: dict[str, _Watched] = {}

    def watch(self, seen: Inspection) -> None:
        """The run that it is in now, and no other run of it any more. What cannot be watched is not: the engine tells
        of it all the same."""
        known = self._watched.get(seen.id)
        if known is not None and seen.running and known.run == seen.run:
            return
        self.forget(seen.id)
        pidfd = _opened(seen) if seen.running else None
        if pidfd is not None:
            self._watched[seen.id] = _Watched(seen.run, pidfd)
            asyncio.get_running_loop().add_reader(pidfd, self._readable, seen.id)

    def forget(self, container: str) -> None:
        known = self._watched.pop(container, None)
        if known is not None:
            asyncio.get_running_loop().remove_reader(known.pidfd)
            os.close(known.pidfd)

    def close(self) -> None:
        for container in tuple(self._watched):
            self.forget(container)

    def _readable(self, container: str) -> None:
        run = self._watched[container].run
        self.forget(container)
        self._ended(container, run)


def _opened(seen: Inspection) -> int | None:
    """None when its process is none of this machine's, or is no more."""
    try:
        pidfd = os.pidfd_open(seen.pid)
    except OSError:
        return None
    # Looked at after the pidfd is held: a number given to another process in between shows here.
    if groups_of(seen) is None:
        os.close(pidfd)
        return None
    return pidfd
