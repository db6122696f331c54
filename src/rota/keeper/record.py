"""What is known of one child, and how it may change: kept by the keeper's children, stored by its shelf."""

import os
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

KEPT_RUNS = 20


class State(StrEnum):
    """Where a child is; the legal moves are in `_MOVES`."""

    INTENDED = "intended"
    RUNNING = "running"
    EXITED = "exited"
    FAILED = "failed"


_MOVES = {
    State.INTENDED: {State.RUNNING, State.FAILED},
    State.RUNNING: {State.EXITED, State.FAILED},
    State.EXITED: {State.INTENDED},
    State.FAILED: {State.INTENDED},
}


@dataclass
class Record:
    """One child. The first ten fields are the caller's, the others are facts; times are RFC 3339 UTC. `signalled` is
    the last signal that the present run's main process was sent by request."""

    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    user: str | None = None
    log: str | None = None
    cgroups: list[str] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)
    restart: bool = False
    listen: dict[str, str] = field(default_factory=dict)
    state: State = State.INTENDED
    pid: int | None = None
    start_ticks: int | None = None
    boot_id: str | None = None
    started_at: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    exited_at: str | None = None
    exit_unknown: bool = False
    signalled: int | None = None
    oom_hint: bool = False
    oom_kills_before: int = 0
    error: str | None = None
    restarts: int = 0
    runs: list[dict[str, Any]] = field(default_factory=list)

    def same_order(self, other: "Record") -> bool:
        """Whether both ask for the same process; `meta` is no part of that."""
        return all(getattr(self, key) == getattr(other, key) for key in ORDER_KEYS - {"meta"})

    def intend(self, boot_id: str, oom_kills: int) -> None:
        """A new run is about to be forked; what is known of the last one is in `runs`."""
        if self.state is not State.INTENDED:
            self._move(State.INTENDED)
        self.pid = self.start_ticks = self.started_at = None
        self.exit_code = self.signal = self.exited_at = self.error = self.signalled = None
        self.exit_unknown = self.oom_hint = False
        self.boot_id, self.oom_kills_before = boot_id, oom_kills

    def run(self, pid: int, start_ticks: int) -> None:
        """It has a process now."""
        self._move(State.RUNNING)
        self.pid, self.start_ticks, self.started_at = pid, start_ticks, now()
        run = {
            "pid": pid,
            "started_at": self.started_at,
            "exited_at": None,
            "exit_code": None,
            "signal": None,
        }
        self.runs = [*self.runs, run][-KEPT_RUNS:]

    def exit(self, status: int | None) -> None:
        """Its process has ended with this wait status, None when nobody can know it."""
        self._move(State.EXITED)
        self.exited_at, self.exit_unknown = now(), status is None
        if status is not None:
            code = os.waitstatus_to_exitcode(status)
            self.exit_code, self.signal = (code, None) if code >= 0 else (None, -code)
        ending = {"exited_at": self.exited_at, "exit_code": self.exit_code, "signal": self.signal}
        self.runs = [*self.runs[:-1], {**self.runs[-1], **ending}] if self.runs else []

    def fail(self, error: str) -> None:
        """It never became the program that was asked for."""
        if self.state is State.RUNNING:
            self.runs = self.runs[:-1]
        self._move(State.FAILED)
        self.pid, self.error = None, error

    def public(self) -> dict[str, Any]:
        """For replies and events: all but the environment, which may hold secrets."""
        return {key: value for key, value in asdict(self).items() if key != "env"}

    def _move(self, to: State) -> None:
        if to not in _MOVES[self.state]:
            raise RuntimeError(f"{self.name}: no move from {self.state} to {to}")
        self.state = to


ORDER_KEYS = frozenset({"name", "argv", "env", "cwd", "user", "log", "cgroups", "meta", "restart", "listen"})


def now() -> str:
    """This moment, RFC 3339 UTC with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
