"""Server-sent events as the client reads them, taken up again where a stream broke off; used to wait for a rollout and
to follow events and logs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from rota.cli.connection import Connection
from rota.core.errors import Unreachable

PATIENCE_SECONDS = 60.0
"""How long a server that restarts is waited for."""

_RETRY_SECONDS = 0.2


def read(connection: Connection, path: str, last: int = 0) -> Iterator[dict[str, Any]]:
    """The events of one stream, until the server ends it."""
    parts: list[str] = []
    for line in connection.lines(path, last):
        if line.startswith("data:"):
            parts.append(line[5:].removeprefix(" "))
        elif not line and parts:
            yield json.loads("\n".join(parts))
            parts = []


class Patience:
    """With a server that does not answer. ``on_loss`` is called once for each stretch of time in which none does."""

    def __init__(self, on_loss: Callable[[], None]) -> None:
        self._on_loss = on_loss
        self._since: float | None = None

    def over(self) -> None:
        """It answers."""
        self._since = None

    def wait(self, error: Unreachable) -> None:
        """A short pause before the next attempt; raises ``error`` when there were enough."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._on_loss()
        elif now - self._since > PATIENCE_SECONDS:
            raise error
        time.sleep(_RETRY_SECONDS)


class Follower:
    """Reads a stream again and again, each time after the last event seen, until the caller has what it wants;
    ``on_loss`` as in Patience."""

    def __init__(self, connection: Connection, path: str, on_loss: Callable[[], None], last: int = 0) -> None:
        self._connection = connection
        self._path = path
        self._patience = Patience(on_loss)
        self._last = last

    def once(self) -> Iterator[dict[str, Any]]:
        """The events until the stream ends or breaks; after a break, call it again. Raises Unreachable when no server
        has answered for PATIENCE_SECONDS."""
        try:
            for event in read(self._connection, self._path, self._last):
                self._patience.over()
                self._last = event.get("seq", self._last)
                yield event
        except Unreachable as error:
            self.wait_after_loss(error)

    def wait_after_loss(self, error: Unreachable) -> None:
        """A short pause before the next attempt; raises ``error`` when there were enough."""
        self._patience.wait(error)
