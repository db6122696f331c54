"""The connections of a load run, new and kept, and the requests open on them; LoadRun sends through it.

It never repeats a request: RFC 9112 (9.3.1) would let a client do so when a kept connection closes under a
GET, but that this does not happen is what the balancer owes, so it is counted.
"""

import asyncio
import random
from collections.abc import Callable
from typing import TypeAlias

from rota.testing.load.connection import Connection, connect
from rota.testing.load.outcome import Ending, Outcome, connect_failure
from rota.testing.load.plan import LoadPlan, Request
from rota.testing.load.response import Response

IDLE_SECONDS = 4.0
"""A kept connection is closed when it was idle so long: under HAProxy's client timeout of 5 s."""
LINGER_SECONDS = 1.0
"""So long the server may take to close a connection whose last answer it has given."""
SWEEP_SECONDS = 0.1


class Exchange:
    """A request under way; `planned`, `sent` and `deadline` are in seconds of the loop's clock."""

    __slots__ = ("connection", "deadline", "planned", "request", "reused", "sent")

    def __init__(self, request: Request, planned: float, sent: float) -> None:
        self.request = request
        self.planned = planned
        self.sent = sent
        self.deadline = sent + request.timeout
        self.reused = False
        self.connection: Connection | None = None


Record: TypeAlias = Callable[[Exchange, Outcome], None]


class Client:
    """Sends requests to one address and reports every outcome once, through `record`."""

    def __init__(self, plan: LoadPlan, family: int, address: tuple[str, int], record: Record) -> None:
        self._loop = asyncio.get_running_loop()
        self._plan = plan
        self._family = family
        self._address = address
        self._record = record
        self._rng = random.Random(plan.seed)  # noqa: S311 - chooses a connection
        self._open: dict[Exchange, None] = {}
        self._idle: list[Connection] = []
        self._kept: set[Connection] = set()
        self._lingering: set[Connection] = set()
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    @property
    def open(self) -> int:
        """How many requests have no outcome yet."""
        return len(self._open)

    def send(self, request: Request, planned: float) -> None:
        """Send a request now, on a new or a kept connection as it asks for."""
        exchange = Exchange(request, planned, self._loop.time())
        self._open[exchange] = None
        connection = None if request.new else self._take_idle()
        exchange.reused = connection is not None
        try:
            connection = connection or connect(self._loop, self._family, self._address, self.forget)
        except (OSError, MemoryError) as error:
            self._finish(exchange, connect_failure(error))
            return
        exchange.connection = connection
        if not request.new:
            self._kept.add(connection)
        connection.ask(request.wire, lambda ending: self._ended(exchange, connection, ending))

    def abandon(self) -> None:
        """Give up what is still open: it counts as timed out."""
        for exchange in list(self._open):
            self._time_out(exchange, "still open when the run was stopped")

    def close(self) -> None:
        """Close all connections; open requests get no outcome."""
        self._sweeper.cancel()
        open_ones = [exchange.connection for exchange in self._open if exchange.connection is not None]
        self._open.clear()
        for connection in {*open_ones, *self._kept, *self._lingering}:
            connection.close()

    def forget(self, connection: Connection) -> None:
        """The server closed this connection: never use it again."""
        self._kept.discard(connection)
        self._lingering.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def _take_idle(self) -> Connection | None:
        if len(self._kept) < self._plan.kept:
            return None
        while self._idle:
            # A random one, so that connections are idle for all sorts of times.
            place = self._rng.randrange(len(self._idle))
            self._idle[place], self._idle[-1] = self._idle[-1], self._idle[place]
            connection = self._idle.pop()
            if connection.usable():
                return connection
            self._kept.discard(connection)
            connection.close()
        return None

    def _ended(self, exchange: Exchange, connection: Connection, ending: Response | Outcome) -> None:
        if isinstance(ending, Outcome):
            self.forget(connection)
            self._finish(exchange, ending)
            return
        connection.idle_since = self._loop.time()
        if connection.closed:
            self.forget(connection)
        elif exchange.request.new or not ending.persistent:
            self._kept.discard(connection)
            self._lingering.add(connection)
        else:
            self._idle.append(connection)
        self._finish(exchange, _judge(exchange.request, ending))

    def _finish(self, exchange: Exchange, outcome: Outcome) -> None:
        if exchange in self._open:
            del self._open[exchange]
            self._record(exchange, outcome)

    def _sweep(self) -> None:
        now = self._loop.time()
        for exchange in [exchange for exchange in self._open if exchange.deadline <= now]:
            self._time_out(exchange, "no complete answer in time")
        expired = [each for each in self._idle if each.idle_since + IDLE_SECONDS <= now]
        expired += [each for each in self._lingering if each.idle_since + LINGER_SECONDS <= now]
        for connection in expired:
            self.forget(connection)
            connection.close()
        self._sweeper = self._loop.call_later(SWEEP_SECONDS, self._sweep)

    def _time_out(self, exchange: Exchange, detail: str) -> None:
        if exchange.connection is not None:
            self._kept.discard(exchange.connection)
            exchange.connection.close()
        self._finish(exchange, Outcome(Ending.TIMEOUT, detail=detail))


def _judge(request: Request, response: Response) -> Outcome:
    if response.status != 200:
        ending = Ending.STATUS
    elif request.accepts(response.body):
        ending = Ending.OK
    else:
        ending = Ending.WRONG_BODY
    headers = response.headers
    detail = "" if ending is Ending.OK else repr(response.body[:80])
    return Outcome(ending, response.status, headers.get("x-rota-replica"), headers.get("x-rota-release"), detail)
