"""A plain HTTP client for the tests of the API."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any

from tests.api.scripted_engine import TOKEN


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Plain requests; each header can be replaced, and taken away with None."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open(
        self, method: str, path: str, body: Any = None, within: float = 20, **headers: str | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=within)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        named = given | {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, content, {name: value for name, value in named.items() if value is not None})
        return line, line.getresponse()

    def __call__(self, method: str, path: str, body: Any = None, within: float = 20, **headers: str | None) -> Answer:
        line, response = self.open(method, path, body, within, **headers)
        try:
            return Answer(
                response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
            )
        finally:
            line.close()
