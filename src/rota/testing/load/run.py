"""One open-loop load run, its arrivals at times fixed at the start; tests and the command start it."""

import asyncio
import socket
import time
from collections.abc import Callable
from types import TracebackType

from rota.testing.load.client import Client, Exchange
from rota.testing.load.outcome import Ending, Outcome
from rota.testing.load.plan import LoadPlan, requests
from rota.testing.load.report import LoadReport
from rota.testing.load.tally import Tally
from rota.testing.load.websocket import HeldWebSockets

WARM_UP_SECONDS = 0.02


class LoadRun:
    """`async with LoadRun(plan) as run: …; report = await run.stop()`.

    Arrival i is due at t0 + i/rate, whatever becomes of the others. Entering raises OSError when the host
    name cannot be resolved; a server that refuses is no error but lost requests.
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._requests = requests(plan)
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None
        self._changed = asyncio.Event()
        self._websockets: HeldWebSockets | None = None
        self._report: LoadReport | None = None

    async def __aenter__(self) -> "LoadRun":
        self._loop = asyncio.get_running_loop()
        host, port = self._plan.address
        family, _, _, _, address = (
            await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=socket.AF_UNSPEC)
        )[0]
        self._client = Client(self._plan, family, (str(address[0]), int(address[1])), self._count)
        self._tally = Tally(self._plan, time.time() - self._loop.time())
        if self._plan.websockets:
            self._websockets = HeldWebSockets(self._plan)
        self._start = self._last_arrival = self._loop.time() + WARM_UP_SECONDS
        self._timer = self._loop.call_at(self._start, self._arrive)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_arrivals()
        if self._websockets is not None:
            await self._websockets.close()
        self._client.close()

    @property
    def arrivals(self) -> int:
        """How many requests were sent so far."""
        return self._arrivals

    @property
    def report(self) -> LoadReport:
        """What was counted so far; requests that are still open are not in it."""
        if self._report is not None:
            return self._report
        sockets = self._websockets.report() if self._websockets is not None else None
        return self._tally.report(self._start, self._last_arrival, sockets)

    async def wait_started(self, timeout: float = 10.0) -> None:
        """Wait for the first right answer. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            await self._until(lambda: self._tally.ok > 0)

    async def wait_finished(self) -> None:
        """Wait until a plan with an end has sent all its requests and each has its outcome."""
        await self._until(lambda: self._timer is None and self._client.open == 0)

    async def stop(self, deadline: float | None = None) -> LoadReport:
        """Send no more, wait for the open requests, and report; again: the same report.

        After `deadline` seconds (default: until each has its outcome or timed out) what is open counts as
        timed out.
        """
        if self._report is not None:
            return self._report
        self._end_arrivals()
        try:
            async with asyncio.timeout(deadline):
                await self.wait_finished()
        except TimeoutError:
            self._client.abandon()
        self._report = self.report
        return self._report

    def _arrive(self) -> None:
        """Send all that is due, then sleep until the next arrival."""
        planned = self._plan.planned_arrivals
        while True:
            due = self._start + self._arrivals / self._plan.rate
            if planned is not None and self._arrivals >= planned:
                self._timer = None
                self._changed.set()
                return
            if due > self._loop.time():
                self._timer = self._loop.call_at(due, self._arrive)
                return
            self._arrivals += 1
            self._last_arrival = due
            self._client.send(next(self._requests), due)

    def _end_arrivals(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._changed.set()

    def _count(self, exchange: Exchange, outcome: Outcome) -> None:
        self._tally.add(exchange, outcome, self._loop.time())
        if outcome.ending is Ending.OK and self._tally.ok == 1:
            self._changed.set()
        if self._timer is None:
            self._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


async def run_load(plan: LoadPlan) -> LoadReport:
    """Carry out a plan that has an end. Raises ValueError for one without."""
    if plan.seconds is None:
        raise ValueError("a plan without `seconds` has no end: use LoadRun")
    async with LoadRun(plan) as run:
        await run.wait_finished()
        return await run.stop()
