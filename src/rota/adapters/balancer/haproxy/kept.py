"""HAProxy as a child of the keeper: the Launcher of a daemon, made by the composition root."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rota.adapters.balancer.haproxy.launcher import Run
from rota.adapters.clock import SystemClock
from rota.adapters.keeper.client import Child, ChildOrder, Children

NAME = "haproxy"
_STOP_TIMEOUT = 10.0  # seconds


class KeptHaproxy:
    """``children`` is open before the first call and closed by whoever opened it."""

    def __init__(self, children: Children, clock: SystemClock, directory: Path) -> None:
        self._children = children
        self._clock = clock
        self._directory = directory

    async def ensure(self, argv: Sequence[str]) -> None:
        """Raises StepFailed. A HAProxy that runs stays, whatever binary it was started from: an upgrade of the
        package takes effect when it is started next."""
        child = self._children.known.get(NAME)
        if child is None or not child.alive:
            log = str(self._directory / "haproxy.log")
            order = ChildOrder(NAME, argv, cwd=str(self._directory), log=log, restart=True)
            await self._children.start(order)

    async def runs(self) -> Sequence[Run]:
        child = self._children.known.get(NAME)
        return [self._run(run) for run in child.runs] if child is not None else []

    def on_exit(self, wake: Callable[[], None]) -> None:
        def act(child: Child) -> None:
            if child.name == NAME and not child.alive:
                wake()

        self._children.on_change(act)

    async def stop(self) -> None:
        """Ends HAProxy for good: its listeners close, what is open is ended."""
        child = self._children.known.get(NAME)
        if child is None:
            return
        if child.alive:
            await self._children.signal(NAME, "TERM", restart=False)
            await self._children.until(NAME, lambda child: child is None or not child.alive, _STOP_TIMEOUT)
        await self._children.forget(NAME)

    def _run(self, run: Mapping[str, Any]) -> Run:
        exited_at = self._clock.at_wall(run["exited_at"]) if run.get("exited_at") else None
        return Run(run["pid"], self._clock.at_wall(run["started_at"]), exited_at, "HAProxy had ended")
