"""A command run inside a replica: asked by the prober for exec health checks, and by the engine for ``rota exec``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rota.core.names import ReplicaId

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # a shell's codes for a program that is not there, or none (POSIX, 2.8.2)
MOST_OUTPUT = 16 * 1024  # bytes that are kept of what a command writes, unless somebody asks for more


@dataclass(frozen=True)
class Ran:
    """``code`` is None when the command did not end in time and was killed; a signal that ended it is 128 + its number.
    ``output`` is the end of what it wrote, errors and all, ``cut`` whether its beginning is left out."""

    code: int | None
    output: str = ""
    cut: bool = False


class Exec(Protocol):
    async def run(
        self, replica: ReplicaId, command: Sequence[str], timeout: float, most_output: int = MOST_OUTPUT
    ) -> Ran:
        """Runs it as the replica's own user, in its directory, with its environment and within its limits; ``$PORT`` is
        filled in. After ``timeout`` seconds all its processes are killed. Takes a bounded amount of memory, whatever it
        writes. A program that is not there is no error but NOT_FOUND, with the reason as output. Raises StepFailed
        when the replica does not run, or the runtime cannot be asked."""
        ...
