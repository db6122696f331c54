"""One TCP connection with at most one request on it; the load run's Client opens and reuses them.

It works on the socket itself: asyncio's transports cost twice the processor time a request.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import TypeAlias

from rota.testing.load.outcome import Ending, Outcome, connect_failure, connection_failure
from rota.testing.load.response import MalformedResponseError, Response, ResponseReader

READ_BYTES = 64 * 1024

Report: TypeAlias = Callable[[Response | Outcome], None]


class Connection:
    """Sends one request after the other and tells each one's ending to the `report` given with it."""

    __slots__ = (
        "_connected",
        "_forget",
        "_loop",
        "_reader",
        "_reading",
        "_report",
        "_socket",
        "_unsent",
        "_writing",
        "closed",
        "idle_since",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, forget: Callable[["Connection"], None]
    ) -> None:
        self.closed = False
        self.idle_since = 0.0
        self._loop = loop
        self._socket = sock
        self._forget = forget
        self._report: Report | None = None
        self._reader = ResponseReader()
        self._unsent = b""
        self._connected = self._reading = self._writing = False

    def ask(self, wire: bytes, report: Report) -> None:
        """Send a request; `report` is called once, perhaps before this returns, unless it is closed first."""
        self._report = report
        self._reader = ResponseReader()
        self._unsent = wire
        self._send()

    def usable(self) -> bool:
        """False when the server has closed, or has sent what nobody asked for."""
        if self.closed:
            return False
        # An end that the kernel knows but the loop has not seen yet counts as seen.
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def close(self) -> None:
        """Close now; a request under way gets no report."""
        if self.closed:
            return
        self.closed = True
        self._report = None
        if self._reading:
            self._loop.remove_reader(self._socket)
        if self._writing:
            self._loop.remove_writer(self._socket)
        self._socket.close()

    def _send(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._break(error)
            return
        # Before the connection is made nothing can be sent, so the first byte tells that it is.
        self._connected = self._connected or sent > 0
        self._unsent = self._unsent[sent:]
        if self._unsent and not self._writing:
            self._writing = True
            self._loop.add_writer(self._socket, self._send)
        elif not self._unsent and self._writing:
            self._writing = False
            self._loop.remove_writer(self._socket)
        if self._connected and not self._reading:
            self._reading = True
            self._loop.add_reader(self._socket, self._read)

    def _read(self) -> None:
        try:
            received = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._break(error)
            return
        if self._report is None:
            # The server closed an idle connection, or sent what nobody asked for.
            self.close()
            self._forget(self)
        elif received:
            self._feed(received)
        else:
            response = self._reader.end()
            if response is None:
                self._break(None)
            else:
                self._end(response, closing=True)

    def _feed(self, received: bytes) -> None:
        try:
            response = self._reader.feed(received)
        except MalformedResponseError as error:
            self._end(Outcome(Ending.BROKEN, detail=str(error)), closing=True)
            return
        if response is not None:
            # An answer before the whole request is out leaves no way to send another.
            self._end(response, closing=bool(self._unsent))

    def _break(self, error: OSError | None) -> None:
        """The connection failed, or ended (no error), at a moment when nothing was complete."""
        if self._report is None:
            self.close()
            self._forget(self)
        elif error is not None and not self._connected:
            self._end(connect_failure(error), closing=True)
        else:
            self._end(connection_failure(error, self._reader.began), closing=True)

    def _end(self, ending: Response | Outcome, closing: bool) -> None:
        report, self._report = self._report, None
        if closing:
            self.close()
        if report is not None:
            report(ending)


def connect(
    loop: asyncio.AbstractEventLoop,
    family: int,
    address: tuple[str, int],
    forget: Callable[[Connection], None],
) -> Connection:
    """Begin a connection, which may still fail under its first request; `forget` hears of an end while idle.

    Raises OSError or MemoryError.
    """
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    code = sock.connect_ex(address)
    if code not in (0, errno.EINPROGRESS):
        sock.close()
        raise OSError(code, os.strerror(code))
    return Connection(loop, sock, forget)
