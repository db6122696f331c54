"""Requests to the server's HTTP API, and its refusals as the errors they stand for; used by every command that asks
the server for something. Built on http.client: it costs a tenth of a larger client's start."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from http import HTTPStatus
from typing import Any, BinaryIO
from urllib.parse import quote

from rota.cli.server import ServerAddress, server_address
from rota.core.errors import NotAllowed, NotFound, Problem, RotaError, SpecError, Unreachable, UsageError

View = dict[str, Any]

TIMEOUT_SECONDS = 30.0
_POLICY_KEY = re.compile(r"^policy\.(\w+):", re.MULTILINE)  # a key of the body that the command's flags gave

SILENCE_SECONDS = 45.0  # three of the server's heartbeats


class Refused(RotaError):
    """The server said no; ``view`` is its problem, whose exit code is the command's."""

    def __init__(self, message: str, view: View) -> None:
        super().__init__(message)
        self.view = view
        self.exit_code = int(view.get("exit_code", 1))  # type: ignore[misc]


class Lost(Unreachable):
    """The connection broke before the answer was whole: whether the server acted is not known."""


class Connection:
    """Each request has a connection of its own: a command makes few, and none is then found closed."""

    def __init__(self, address: ServerAddress | None = None) -> None:
        self.address = address or server_address()

    def get(self, path: str) -> View:
        return self.send("GET", path)

    def post(
        self, path: str, body: View | None = None, *, key: str | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> View:
        headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
        return self.send("POST", path, json.dumps(body or {}).encode(), headers, timeout)

    def send(
        self,
        method: str,
        path: str,
        body: bytes | BinaryIO | None = None,
        more: Mapping[str, str] = {},
        timeout: float = TIMEOUT_SECONDS,
    ) -> View:
        """Raises Unreachable, NotAllowed, NotFound, SpecError, UsageError, Lost or Refused."""
        with self._answer(method, path, body, more, timeout) as answer:
            text = answer.read()
        try:
            view: View = json.loads(text)
        except ValueError:
            raise self._no_rota(f"{method} {path} is answered with something else than JSON") from None
        return view

    def exists(self, path: str) -> bool:
        try:
            with self._answer("HEAD", path, None, {}, TIMEOUT_SECONDS):
                return True
        except NotFound:
            return False

    def lines(self, path: str, last: int) -> Iterator[str]:
        """The lines of an event stream, until it ends. Raises as ``send`` does, Lost when it breaks."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": str(last)} if last else {})
        with self._answer("GET", path, None, headers, SILENCE_SECONDS) as answer:
            for line in answer:
                yield line.decode().rstrip("\r\n")

    @contextmanager
    def _answer(
        self, method: str, path: str, body: bytes | BinaryIO | None, more: Mapping[str, str], timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        headers = dict(more)
        if self.address.token:
            headers["Authorization"] = f"Bearer {self.address.token}"
        with closing(http.client.HTTPConnection(self.address.host, self.address.port, timeout=timeout)) as line:
            try:
                line.connect()
            except OSError as error:
                raise self._unreachable(error) from None
            try:
                with suppress(BrokenPipeError, ConnectionResetError):
                    line.request(method, path, body, headers)  # an upload may be refused before it is whole
                answer = line.getresponse()
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise self._refusal(method, answer)
                yield answer
            except (OSError, http.client.HTTPException) as error:
                raise Lost(f"the connection to {self.address.url} broke: {error or type(error).__name__}") from None

    def _unreachable(self, error: OSError) -> Unreachable:
        if isinstance(error, ConnectionRefusedError):
            return Unreachable(f"no rota server answers at {self.address.url}; start one with: rota serve")
        return Unreachable(f"no rota server answers at {self.address.url}: {error}")

    def _no_rota(self, why: str) -> Unreachable:
        return Unreachable(f"what answers at {self.address.url} is no rota server: {why}; set ROTA_SERVER")

    def _refusal(self, method: str, answer: http.client.HTTPResponse) -> RotaError:
        view = _problem(answer)
        said = f"{answer.status} {answer.reason}"
        if not view and method != "HEAD":
            return self._no_rota(f"it says {said}")
        detail = str(view.get("detail") or f"the server answered {said}")
        if answer.status == HTTPStatus.UNAUTHORIZED:
            return NotAllowed(self._token_advice())
        if "problems" in view:
            return SpecError([Problem(**entry) for entry in view["problems"]])
        kind = {"not-found": NotFound, "usage": UsageError}.get(str(view.get("code")))
        if kind is None and answer.status == HTTPStatus.NOT_FOUND:
            kind = NotFound  # a HEAD has no body
        if kind is UsageError:
            detail = _POLICY_KEY.sub(_flag, detail)
        return kind(detail) if kind else Refused(detail, view)

    def _token_advice(self) -> str:
        place = self.address.token_place
        if self.address.token is None:
            return f"{self.address.url} wants a token and {place} cannot be read; set ROTA_TOKEN or ROTA_DATA_DIR"
        return f"{self.address.url} does not accept the token of {place}; set ROTA_TOKEN or ROTA_DATA_DIR"


def _flag(key: re.Match[str]) -> str:
    """``--min-available:`` for ``policy.min_available:``."""
    return f"--{key[1].replace('_', '-')}:"


def _problem(answer: http.client.HTTPResponse) -> View:
    text = answer.read(2**20)
    try:
        view = json.loads(text)
    except ValueError:
        return {}
    return view if isinstance(view, dict) else {}


def quoted(name: str) -> str:
    """A name that a person gave, as one part of a path."""
    return quote(name, safe="")
