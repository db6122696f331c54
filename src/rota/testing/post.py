"""A mail server and a web hook on the loopback that keep what they are sent and can refuse it; used by tests of
notices."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Hook:
    """``refuse`` is how many more requests are answered with 500; ``before_answer`` is called with each request's
    body before it is answered; ``names`` are all requests' idempotency keys."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.taken: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        self.names: list[str | None] = []
        self.refuse = 0
        self.before_answer: Callable[[dict[str, Any]], None] = lambda body: None
        self.port = server.server_address[1]

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/hook"

    def take(self, body: dict[str, Any]) -> int:
        self.before_answer(body)
        if self.refuse > 0:
            self.refuse -= 1
            self.refused.append(body)
            return 500
        self.taken.append(body)
        return 200


@contextmanager
def web_hook() -> Iterator[Hook]:
    """Listens on a port of its own as long as the block lasts."""

    class Request(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.names.append(self.headers["Idempotency-Key"])
            length = int(self.headers.get("Content-Length", "0"))
            status = hook.take(json.loads(self.rfile.read(length)))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Request)
    server.daemon_threads = True
    hook = Hook(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
