"""Reloads of HAProxy: batched, not too many at a time, and the processes that they replace read to their end; used
by balancer.py."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from statistics import median

from rota.adapters.balancer.haproxy.rows import Rows, read_counts
from rota.adapters.balancer.haproxy.shared import Shared
from rota.adapters.balancer.haproxy.socket import Conversation, NotAnswering
from rota.adapters.balancer.haproxy.stats import number
from rota.adapters.balancer.haproxy.worker import Haproxy, process_id, wholly
from rota.core import observation
from rota.core.errors import StepFailed
from rota.ports.clock import Clock

_GATHER = 0.02  # seconds in which changes of one moment come together
_MOST_OLD = 8  # of 6 to 8 MB each (measured): what they hold delays nobody, it only takes memory
_ROOM_DEADLINE = 60.0
_PATIENCE = 5.0  # seconds in which one may end by itself
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.5
_KEPT_ENDED = 50
_MEASURED = 15  # the newest reloads: files grow


class Reloads:
    """``interval``: the shortest time between two reloads, in seconds; the first after a quiet time goes at once.
    ``carry_out`` calls what it is given when later changes need a reload of their own. ``let_go`` ends the long
    connections of an old process."""

    def __init__(
        self,
        haproxy: Haproxy,
        interval: float,
        clock: Clock,
        carry_out: Callable[[Callable[[], None]], Awaitable[None]],
        let_go: Callable[[int], Awaitable[None]],
    ) -> None:
        self._haproxy = haproxy
        self._interval = interval
        self._clock = clock
        self._carry_out = carry_out
        self._let_go = let_go
        self._not_before = 0.0
        self._took: deque[float] = deque(maxlen=_MEASURED)
        self._shared = Shared(self._when_due)

    @property
    def seen(self) -> observation.Reloads:
        took = median(self._took) if self._took else 0.0
        return observation.Reloads(self._not_before, self._interval, took, len(self._took))

    async def reload(self) -> None:
        """Returns when a reload begun after this call is done. Raises StepFailed."""
        await self._shared.next()

    async def _when_due(self, begin: Callable[[], None]) -> None:
        def begun() -> None:
            begin()
            self._not_before = self._clock.now() + self._interval

        due = max(self._clock.now(), self._not_before)
        await asyncio.sleep(max(_GATHER, due - self._clock.now()))
        await self._room()
        await self._carry_out(begun)
        self._took.append(self._clock.now() - due)

    async def _room(self) -> None:
        """Waits until there may be one more old process; the oldest has to go when none does by itself."""
        try:
            async with asyncio.timeout(_ROOM_DEADLINE):
                since = self._clock.now()
                while len(old := (await self._haproxy.workers()).old) >= _MOST_OLD:
                    if self._clock.now() >= since + _PATIENCE:
                        await self._let_go(old[0])
                    await asyncio.sleep(_LONGEST_LOOK)
        except TimeoutError as error:
            raise StepFailed(
                f"{_MOST_OLD} earlier HAProxy processes still have connections open; another has to wait for them"
            ) from error


class Ended:
    """The last rows of processes that a reload replaced. Each is kept alive by a connection until its last request
    is counted, and let go then."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._rows: dict[str, Rows] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def rows(self) -> Mapping[str, Rows]:
        """By process, the oldest first."""
        return self._rows

    @property
    def following(self) -> int:
        """How many processes are read to their end."""
        return len(self._tasks)

    def note(self, process: str, rows: Rows) -> None:
        """Keeps a reading of a process that may end at any time; a later one takes its place."""
        self._rows.pop(process, None)
        self._rows[process] = rows
        while len(self._rows) > _KEPT_ENDED:
            del self._rows[next(iter(self._rows))]

    def follow(self, witness: Conversation, pid: int) -> None:
        task = asyncio.create_task(self._until_idle(witness, pid))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _until_idle(self, witness: Conversation, pid: int) -> None:
        process, pause = process_id(pid), _FIRST_LOOK
        try:
            while process is not None:
                info = await witness.ask("show info")
                idle = number(info, "Jobs") - number(info, "Unstoppable Jobs") <= 1  # the one is the witness
                self.note(process, await wholly(read_counts(await witness.ask("show stat -1 6 -1"))))
                if idle:
                    break
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, _LONGEST_LOOK)
        except NotAnswering:
            return  # hard-stop-after, or HAProxy was killed: the last reading stands
        finally:
            witness.close()
            self._wake()
