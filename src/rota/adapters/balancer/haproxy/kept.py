"""HAProxy as a child of the keeper: the Launcher of a daemon, made by the composition root."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rota.adapters.balancer.haproxy.launcher import Run
from rota.adapters.balancer.haproxy.newest import LOG
from rota.adapters.clock import SystemClock
from rota.adapters.keeper.client import Child, ChildOrder, Children, Refused

NAME = "haproxy"
_STOP_TIMEOUT = 10.0  # seconds
_LONGEST_START = 5.0  # seconds


class KeptHaproxy:
    """``children`` is open before the first call and closed by whoever opened it."""

    def __init__(self, children: Children, clock: SystemClock, directory: Path) -> None:
        self._children = children
        self._clock = clock
        self._directory = directory
        self._serving: dict[str, float] = {}  # by the run's own start, since what begins to serve may end soon

    async def ensure(self, argv: Sequence[str], listen: Mapping[str, str]) -> None:
        """Raises StepFailed. A HAProxy that runs stays; the adapter reloads it when its program is another now."""
        child = self._children.known.get(NAME)
        if child is None or not child.alive:
            log = str(self._directory / LOG)
            order = ChildOrder(NAME, argv, cwd=str(self._directory), log=log, restart=True, listen=listen)
            await self._children.start(order)

    async def listen(self, listen: Mapping[str, str]) -> None:
        """Raises StepFailed."""
        child = self._children.known.get(NAME)
        if child is not None and child.listen != listen:
            try:
                await self._children.listen(NAME, listen)
            except Refused as refused:
                if refused.reason != "bad-request":  # a keeper of before an update of rota knows no such request
                    raise

    @property
    def pids(self) -> frozenset[int]:
        """Its processes, old workers among them; none when it does not run."""
        child = self._children.known.get(NAME)
        if child is None or not child.alive or child.pid is None:
            return frozenset()
        return frozenset({child.pid, *_children_of(child.pid)})

    def listens_at(self, bind: str) -> bool:
        """Whether it runs and has that address already, by its file."""
        bound = re.compile(rf'  bind (?:"\$\{{\w+-)?{re.escape(bind)}(?:\}}")?')
        with suppress(OSError):
            lines = (self._directory / "haproxy.cfg").read_text().splitlines()
            return bool(self.pids) and any(map(bound.fullmatch, lines))
        return False

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
        begun, exited_at = run["started_at"], run.get("exited_at")
        started_at = self._clock.at_wall(begun)
        if exited_at is None and begun not in self._serving:
            self._look_for_worker(run["pid"], begun, started_at)
        return Run(
            run["pid"],
            started_at,
            self._clock.at_wall(exited_at) if exited_at else None,
            "HAProxy had ended",
            self._serving.get(begun),
        )

    def _look_for_worker(self, master: int, begun: str, started_at: float) -> None:
        """A master forks its first worker once it has bound all addresses. Of a HAProxy that was found running, and
        has reloaded, that one may be gone: a later one says nothing."""
        first = min(map(self._clock.at_ticks, _children_started(master)), default=None)
        if first is not None and first < started_at + _LONGEST_START:
            self._serving[begun] = max(started_at, first)


def _children_started(pid: int) -> list[int]:
    """The start ticks of a process's children (proc(5)); none when it is gone."""
    try:
        return [int(Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[19]) for one in _children_of(pid)]
    except OSError:
        return []


def _children_of(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
