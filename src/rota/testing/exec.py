"""Commands beside the replicas of a FakeRuntime, as values; fulfils the Exec port.

exec = FakeExec(runtime)
exec.does = lambda replica, command: Program(code=1, writes="no database")"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import RunState
from rota.ports.exec import MOST_OUTPUT, Ran
from rota.testing.runtime import FakeRuntime


@dataclass(frozen=True)
class Program:
    """``takes`` is in seconds; nobody waits for them, but a time limit below them is over."""

    code: int = 0
    writes: str = ""
    takes: float = 0.0


class FakeExec:
    """``does`` says what a command does, ``asked`` are all that were run."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.does: Callable[[ReplicaId, tuple[str, ...]], Program] = lambda replica, command: Program()
        self.asked: list[tuple[ReplicaId, tuple[str, ...]]] = []

    async def run(
        self, replica: ReplicaId, command: Sequence[str], timeout: float, most_output: int = MOST_OUTPUT
    ) -> Ran:
        seen = (await self._runtime.observe())[0].get(replica)
        if seen is None or seen.state is not RunState.RUNNING or seen.address is None:
            raise StepFailed(f"{replica} does not run")
        words = tuple(word.replace("$PORT", str(seen.address.port)) for word in command)
        self.asked.append((replica, words))
        program = self.does(replica, words)
        written = program.writes.encode()
        kept = written[-most_output:].decode(errors="replace")
        return Ran(None if program.takes > timeout else program.code, kept, len(written) > most_output)
