"""The end of what is left of a child's tree: killed at once, watched until gone; begun by the children."""

import os
from collections.abc import Callable

from .loop import Loop
from .process import close

PATIENCE = 2.0
"""Seconds after which a sweep is over whatever is left: what was killed and is there hangs in the kernel."""


class Sweep:
    """Kills round after round, as a forking tree may outrun one, until a round finds nobody."""

    def __init__(self, loop: Loop, kill: Callable[[], list[int]]) -> None:
        """`kill` sends SIGKILL to all that is left and returns their pidfds."""
        self._loop, self._kill = loop, kill
        self._dying: list[int] = []
        self._afterwards: list[Callable[[], None]] = []
        self.over = False
        self._deadline = loop.after(PATIENCE, self._finish)
        self._round()

    def then(self, callback: Callable[[], None]) -> None:
        """Call back when it is over, in the order of asking; at once when it is."""
        if self.over:
            callback()
        else:
            self._afterwards.append(callback)

    def _round(self) -> None:
        self._dying = self._kill()
        for pidfd in self._dying:
            self._loop.watch(pidfd, lambda pidfd=pidfd: self._gone(pidfd))  # type: ignore[misc]
        if not self._dying:
            self._finish()

    def _gone(self, pidfd: int) -> None:
        self._loop.unwatch(pidfd)
        self._dying.remove(pidfd)
        os.close(pidfd)
        if not self._dying:
            self._round()

    def _finish(self) -> None:
        self.over = True
        self._deadline.cancel()
        for pidfd in self._dying:
            self._loop.unwatch(pidfd)
        close(self._dying)
        self._dying = []
        for callback in self._afterwards:
            callback()
