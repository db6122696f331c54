"""The errors a person can cause or must act on, by the reaction that they require; every layer raises them.

RotaError                  1   failed
├── UsageError             2   the command line is wrong
├── SpecError              3   the file is wrong: one Problem a mistake, each with its place
├── CapacityError          3   what is asked for does not fit
├── Taken                  3   another app has it
│   ├── DomainTaken        3   the domain
│   └── PortTaken          3   the port, or the name on it
├── Unreachable            4   no server answers there
├── NotAllowed             4   token missing or wrong
├── NotFound               1   no such app, release, rollout or replica
├── Conflict               1   not now: something else is under way (HTTP 409)
│   └── StalePlan          1   what a plan rests on has changed since
├── Missing                1   a component of the machine is not there (HAProxy, Docker, …)
└── StepFailed             1   a port could not carry out a step; the loop tries again or counts it
    ├── RuntimeLost        1   the runtime cannot be asked; nothing is decided until it is back
    ├── StartFailed        1   a replica could not be started at all
    └── LimitsRefused      1   a replica cannot get these limits while it runs; another is started with them
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar


class RotaError(Exception):
    """A failure with one clear message for a person; ``exit_code`` is the command line's (design.md)."""

    exit_code: ClassVar[int] = 1
    status: ClassVar[int] = 500
    code: ClassVar[str] = "failed"

    @property
    def message(self) -> str:
        return str(self)


class UsageError(RotaError):
    exit_code = 2
    status = 400
    code = "usage"


@dataclass(frozen=True)
class Problem:
    """One mistake in a file; ``line`` and ``column`` count from 1, 0 means "the whole file"."""

    message: str
    line: int = 0
    column: int = 0
    file: str = "rota.yaml"
    key: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.message}"


class SpecError(RotaError):
    exit_code = 3
    status = 422
    code = "invalid-file"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class CapacityError(RotaError):
    """``capacity`` has the numbers, JSON-ready (core.capacity)."""

    exit_code = 3
    status = 422
    code = "capacity"

    def __init__(self, message: str, capacity: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.capacity = capacity


class Taken(RotaError):
    """``key`` is the one of the file that names it."""

    exit_code = 3
    status = 422
    code = "taken"

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class DomainTaken(Taken):
    code = "domain-taken"


class PortTaken(Taken):
    code = "port-taken"


class Unreachable(RotaError):
    exit_code = 4
    status = 503
    code = "unreachable"


class NotAllowed(RotaError):
    exit_code = 4
    status = 401
    code = "not-allowed"


class NotFound(RotaError):
    status = 404
    code = "not-found"


class Conflict(RotaError):
    """``rollout`` is the id of the one that is in the way."""

    status = 409
    code = "conflict"

    def __init__(self, message: str, rollout: str | None = None) -> None:
        super().__init__(message)
        self.rollout = rollout


class StalePlan(Conflict):
    code = "stale-plan"


class Missing(RotaError):
    status = 503
    code = "missing"


class StepFailed(RotaError):
    code = "step-failed"


class RuntimeLost(StepFailed):
    code = "runtime-lost"


class StartFailed(StepFailed):
    code = "start-failed"


class LimitsRefused(StepFailed):
    code = "limits-refused"
