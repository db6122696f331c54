"""One HTTP/1.1 response read from the wire (RFC 9112); the load generator's connections feed it."""

from dataclasses import dataclass

MAX_HEAD_BYTES = 64 * 1024


class MalformedResponseError(Exception):
    """The bytes are no HTTP/1.1 response; the connection cannot be used any more."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer; `persistent` says that its connection may carry another request."""

    status: int
    headers: dict[str, str]
    body: bytes
    persistent: bool


class ResponseReader:
    """Collects the bytes of one response until it is complete."""

    __slots__ = ("_body_at", "_buffer", "_headers", "_length", "_persistent", "_status", "began")

    def __init__(self) -> None:
        self.began = False
        self._buffer = bytearray()
        self._headers: dict[str, str] | None = None
        self._status = 0
        self._body_at = 0
        self._length: int | None = None
        self._persistent = True

    def feed(self, received: bytes) -> Response | None:
        """Take bytes; the response once it is complete. Raises MalformedResponseError."""
        self.began = True
        self._buffer += received
        while self._headers is None:
            if not self._read_head():
                return None
        if self._chunked:
            body = self._chunked_body()
            return None if body is None else self._complete(body, excess=False)
        if self._length is None:
            return None
        end = self._body_at + self._length
        if len(self._buffer) < end:
            return None
        return self._complete(bytes(self._buffer[self._body_at : end]), excess=len(self._buffer) > end)

    def end(self) -> Response | None:
        """The server ended the connection: the response if that is how its body ends (RFC 9112, 6.3)."""
        if self._headers is None or self._length is not None or self._chunked:
            return None
        self._persistent = False
        return self._complete(bytes(self._buffer[self._body_at :]), excess=False)

    @property
    def _chunked(self) -> bool:
        return self._headers is not None and "transfer-encoding" in self._headers

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise MalformedResponseError("the head has no end")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        status_line = lines[0].split(" ", 2)
        if len(status_line) < 2 or not status_line[0].startswith("HTTP/1.") or not status_line[1].isdigit():
            raise MalformedResponseError(f"no status line: {lines[0][:80]!r}")
        self._status = int(status_line[1])
        if 100 <= self._status < 200:
            del self._buffer[: end + 4]
            return bool(self._buffer)
        headers = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        options = headers.get("connection", "").lower()
        self._persistent = "close" not in options and (status_line[0] != "HTTP/1.0" or "keep-alive" in options)
        self._length = _body_length(self._status, headers)
        self._headers = headers
        self._body_at = end + 4
        return True

    def _chunked_body(self) -> bytes | None:
        body, at = bytearray(), self._body_at
        while True:
            line_end = self._buffer.find(b"\r\n", at)
            if line_end < 0:
                return None
            try:
                size = int(self._buffer[at:line_end].split(b";")[0], 16)
            except ValueError as error:
                raise MalformedResponseError("no chunk size") from error
            at = line_end + 2
            if size == 0:
                # Trailers end with an empty line; without any, it is the next line.
                complete = self._buffer[at : at + 2] == b"\r\n" or self._buffer.find(b"\r\n\r\n", at) >= 0
                return bytes(body) if complete else None
            if len(self._buffer) < at + size + 2:
                return None
            body += self._buffer[at : at + size]
            at += size + 2

    def _complete(self, body: bytes, excess: bool) -> Response:
        assert self._headers is not None
        # Bytes beyond the answer belong to no request of ours: never send another there.
        return Response(self._status, self._headers, body, self._persistent and not excess)


def _body_length(status: int, headers: dict[str, str]) -> int | None:
    if status in (204, 304):
        return 0
    length = headers.get("content-length")
    if length is None:
        return None
    if not (length.isascii() and length.isdigit()):
        raise MalformedResponseError(f"Content-Length is {length[:80]!r}")
    return int(length)
