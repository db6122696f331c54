"""One health check by a command in the replica, in a person's words; asked by the prober."""

from __future__ import annotations

from collections.abc import Sequence

from rota.core.names import ReplicaId
from rota.ports.exec import MOST_OUTPUT, NOT_EXECUTABLE, NOT_FOUND, Exec, Ran
from rota.ports.prober import ProbeResult

_LINE_SHOWN = 200  # characters of what it said last


async def ask(exec: Exec, replica: ReplicaId, command: Sequence[str], timeout: float) -> ProbeResult:
    """Passes when it ends with 0 in time. Raises StepFailed when it cannot be run now, which is no failure."""
    ran = await exec.run(replica, command, timeout, MOST_OUTPUT)
    if ran.code == 0:
        return ProbeResult()
    said = _last_line(ran)
    return ProbeResult(f"{_ending(ran.code, command[0], timeout)}{f': {said}' if said else ''}")


def _ending(code: int | None, program: str, timeout: float) -> str:
    match code:
        case None:
            return f"the check's command did not end within {timeout:g} s and was killed"
        case _ if code == NOT_FOUND:
            return f"the check's command cannot be run (exit code {NOT_FOUND}: is {program!r} in the replica?)"
        case _ if code == NOT_EXECUTABLE:
            return f"the check's command cannot be run (exit code {NOT_EXECUTABLE}: may {program!r} be executed?)"
        case _:
            return f"the check's command ended with exit code {code}"


def _last_line(ran: Ran) -> str:
    lines = [line.strip() for line in ran.output.splitlines() if line.strip()]
    return "".join(mark if mark.isprintable() else "?" for mark in lines[-1][:_LINE_SHOWN]) if lines else ""
