"""Faults: ends a daemon with SIGKILL at one point of one step, as a crash would; ordered by a variable of its
environment, read by the composition root."""

from __future__ import annotations

import os
import signal

from rota.core.steps import STEP_TYPES, Step

VARIABLE = "ROTA_FAULT"
POINTS = ("decided", "recorded", "acted")


def fault_points() -> list[str]:
    """Every point of every step, as ``point:Step``: the list comes from the step types, so that a new one has its."""
    return [f"{point}:{step.__name__}" for step in STEP_TYPES for point in POINTS]


class Fault:
    """``order`` is ``point:Step[:n]``: at the n-th time (1 by default) that the point is reached, the process dies."""

    def __init__(self, order: str) -> None:
        point, step, *count = order.split(":")
        if f"{point}:{step}" not in fault_points():
            raise ValueError(f"{VARIABLE}: there is no fault point {order!r}")
        self._point, self._step = point, step
        self._left = int(count[0]) if count else 1

    def __call__(self, point: str, step: Step) -> None:
        if point == self._point and type(step).__name__ == self._step:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
