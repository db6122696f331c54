"""The keeper's Unix socket: many clients with JSON lines, none waiting for another; run by main."""

import json
import selectors
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .children import RefusedError, SweepingError
from .loop import Loop, Timer
from .record import Record
from .requests import Request, Requests
from .shape import MalformedError

LONGEST_LINE = 4 * 1024 * 1024
MOST_BEHIND = 1024 * 1024
"""Bytes of events a watcher may be behind before it is let go, to watch again."""
_ACCEPT_AGAIN = 0.5


class Client:
    """One connection: what has come of its next line, and what it has not read yet."""

    def __init__(self, loop: Loop, connection: socket.socket, on_line: Callable[["Client", bytes], None]) -> None:
        self._loop, self._connection, self._on_line = loop, connection, on_line
        self._incoming, self._outgoing = bytearray(), bytearray()
        self._allowance = 0
        self._turn: Timer | None = None
        self.watching = False
        self.open = True
        self.leaving = False
        connection.setblocking(False)
        self._loop.watch(connection.fileno(), self._ready)

    def reply(self, message: dict[str, Any]) -> None:
        """Send, or keep until the client reads; nothing happens when it has gone."""
        self._send(json.dumps(message).encode() + b"\n")
        self._allowance = max(self._allowance, len(self._outgoing))

    def notify(self, line: bytes) -> None:
        """Send an event; a client that is too far behind is closed."""
        self._send(line)
        if len(self._outgoing) > self._allowance + MOST_BEHIND:
            self.close()

    def close(self) -> None:
        """No more of it."""
        if self.open:
            self.open = False
            self._loop.unwatch(self._connection.fileno())
            self._connection.close()

    def _send(self, line: bytes) -> None:
        if self.open:
            self._outgoing += line
            self._flush()

    def _ready(self) -> None:
        self._flush()
        if self._served:
            self._receive()
            self._take_line_soon()

    @property
    def _served(self) -> bool:
        """Who does not read its replies is not served on: that bounds what is kept for it."""
        return self.open and not self.leaving and len(self._outgoing) <= MOST_BEHIND

    def _flush(self) -> None:
        try:
            while self._outgoing:
                del self._outgoing[: self._connection.send(self._outgoing)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self._outgoing:
            self._allowance = 0
            if self.leaving:
                self.close()
                return
        self._loop.watch(self._connection.fileno(), self._ready, self._wanted())

    def _wanted(self) -> int:
        reading = selectors.EVENT_READ if len(self._outgoing) <= MOST_BEHIND and not self.leaving else 0
        return (selectors.EVENT_WRITE if self._outgoing else 0) | reading

    def _receive(self) -> None:
        try:
            piece = self._connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self.close()
        self._incoming += piece

    def _take_line_soon(self) -> None:
        """One line a round of the loop: a client with many requests does not hold up the news of an exit."""
        if self._turn is None and self._served:
            if b"\n" in self._incoming:
                self._turn = self._loop.after(0, self._take_line)
            elif len(self._incoming) > LONGEST_LINE:
                self.leaving = True
                self.reply(refusal(None, "bad-request", "a line of over 4 MiB"))

    def _take_line(self) -> None:
        self._turn = None
        if self._served:
            end = self._incoming.index(b"\n")
            line = bytes(self._incoming[:end])
            del self._incoming[: end + 1]
            if line.strip():
                self._on_line(self, line)
            self._take_line_soon()


class Server:
    """Listens, and publishes events to those who watch."""

    def __init__(self, loop: Loop, path: Path) -> None:
        """Bind, or OSError; the caller holds the lock, so that a socket found there is nobody's."""
        self._loop, self._path = loop, path
        self._clients: list[Client] = []
        self._requests: Requests | None = None
        self.finished = False
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)

    def serve(self, requests: Requests) -> None:
        """Begin to answer."""
        self._requests = requests
        self._listener.listen(64)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), self._accept)

    def publish(self, event: str, record: Record) -> None:
        """Tell all who watch, at once."""
        watchers = [client for client in self._clients if client.watching]
        if watchers:
            line = json.dumps({"event": event, "child": record.public()}).encode() + b"\n"
            for client in watchers:
                client.notify(line)

    def close(self) -> None:
        """Take the socket away."""
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        self._clients = [client for client in self._clients if client.open]
        try:
            connection, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:
            # No descriptors left: a listener that stays ready would spin the loop.
            self._loop.unwatch(self._listener.fileno())
            self._loop.after(_ACCEPT_AGAIN, lambda: self._loop.watch(self._listener.fileno(), self._accept))
            return
        self._clients.append(Client(self._loop, connection, self._on_line))

    def _on_line(self, client: Client, line: bytes) -> None:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            client.reply(refusal(None, "bad-request", "not JSON"))
            return
        if not isinstance(request, dict):
            client.reply(refusal(None, "bad-request", "a request must be an object"))
            return
        self._answer(client, request)

    def _answer(self, client: Client, request: Request) -> None:
        assert self._requests is not None  # noqa: S101 - nothing is accepted before `serve`
        key = request.get("id")
        try:
            reply = self._requests.answer(request)
        except MalformedError as error:
            client.reply(refusal(key, "bad-request", str(error)))
        except RefusedError as error:
            client.reply(refusal(key, error.code, error.message))
        except SweepingError as busy:
            busy.sweep.then(lambda: self._answer(client, request))
        else:
            client.watching = client.watching or request["op"] == "watch"
            client.reply({"id": key, "ok": True, **reply})
            if request["op"] == "shutdown":
                self._loop.stop()


def refusal(key: object, code: str, message: str) -> dict[str, Any]:
    """A reply that says why not."""
    return {"id": key, "ok": False, "error": {"code": code, "message": message}}
