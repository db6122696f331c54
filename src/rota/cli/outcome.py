"""How a rollout ended, as an exit code (design.md, "Exit codes"); used by every command that waits for one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

OK = 0
FAILED = 1
ROLLED_BACK = 5
TIMED_OUT = 6
REQUESTS_LOST = 7
PAUSED = 8
DETACHED = 130

ENDED = frozenset({"succeeded", "rolled_back", "failed", "cancelled"})
SETTLED = ENDED | {"paused"}
"""Phases at which waiting has an end: the rollout's own, or a person's turn."""

_TIMEOUTS = frozenset({"timeout-error", "progress-deadline"})
_ORDER = (TIMED_OUT, ROLLED_BACK, REQUESTS_LOST, PAUSED, FAILED)


def exit_code(rollout: dict[str, Any], fail_on_loss: bool) -> int:
    """One cause, the first of 6, 5, 7, 8, 1 that applies."""
    phase, reason = rollout["phase"], rollout.get("reason")
    if phase != "succeeded" and reason in _TIMEOUTS:
        return TIMED_OUT
    if phase == "rolled_back":
        return ROLLED_BACK
    if fail_on_loss and _lost(rollout.get("receipt")):
        return REQUESTS_LOST
    if phase == "paused":
        return PAUSED
    return OK if phase == "succeeded" else FAILED


def worst(codes: Iterable[int]) -> int:
    """The code of several rollouts together."""
    given = set(codes)
    return next((code for code in _ORDER if code in given), OK)


def _lost(receipt: dict[str, Any] | None) -> bool:
    """An incomplete receipt proves nothing, so it does not prove that nothing was lost."""
    return receipt is not None and (receipt["failed"] > 0 or not receipt["complete"])
