"""What a load run sends: the plan of a run and the seeded stream of its requests; LoadRun draws from it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

MAX_BODY_BYTES = 2048
SLOW_BODY = b"slow: done\n"


class PathKind(StrEnum):
    """The three sorts of requests in the mix."""

    FAST = "fast"
    SLOW = "slow"
    ECHO = "echo"


@dataclass(frozen=True)
class LoadPlan:
    """A load run: `rate` arrivals a second at `url`, for `seconds` or, if that is None, until it is stopped.

    Shares are parts of all arrivals, 0 to 1: `slow_share` ask `/slow` and wait `slow_seconds`, `post_share`
    post a random body to `/echo`, the others get `fast_path`, whose body must begin with `fast_prefix`.
    `new_share` of them use a new connection each; the others share kept ones, at least `kept` in number.
    A request is lost when it has no complete answer within `timeout` seconds (slow ones: after their wait).
    The defaults fit `examples/hello`. Raises ValueError for a plan that cannot be carried out.
    """

    url: str
    host: str | None = None
    rate: float = 300.0
    seconds: float | None = None
    slow_seconds: float = 1.0
    slow_share: float = 0.05
    post_share: float = 0.2
    new_share: float = 0.5
    kept: int = 32
    timeout: float = 10.0
    websockets: int = 0
    seed: int = 1
    fast_path: str = "/"
    fast_prefix: str = "Hello from "

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f"the URL must be http://HOST[:PORT], not {self.url!r}")
        if not 0 < self.rate <= 10_000:
            raise ValueError(f"the rate must be over 0 and at most 10,000 a second, not {self.rate:g}")
        for name in ("slow_share", "post_share", "new_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be 0 to 1, not {getattr(self, name):g}")
        if self.slow_share + self.post_share > 1:
            raise ValueError("slow_share and post_share are more than 1 together")
        if self.timeout <= 0 or self.slow_seconds < 0 or (self.seconds is not None and self.seconds <= 0):
            raise ValueError("timeout and seconds must be over 0, slow_seconds not under 0")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port to connect to."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or 80

    @property
    def authority(self) -> str:
        """The Host header: `host`, else what the URL names."""
        return self.host or urlsplit(self.url).netloc

    @property
    def planned_arrivals(self) -> int | None:
        """How many requests the whole run has; None for a run without an end."""
        return None if self.seconds is None else max(1, round(self.rate * self.seconds))


@dataclass(frozen=True, slots=True)
class Request:
    """One arrival: its bytes on the wire and what a right answer's body is."""

    number: int
    method: str
    path: str
    kind: PathKind
    new: bool
    wire: bytes
    expected: bytes
    timeout: float

    def accepts(self, body: bytes) -> bool:
        """Whether this body is the right one."""
        return body.startswith(self.expected) if self.kind is PathKind.FAST else body == self.expected


def requests(plan: LoadPlan) -> Iterator[Request]:
    """All arrivals of a plan in order, the same for the same seed; without an end."""
    rng = random.Random(plan.seed)  # noqa: S311 - a mix that can be repeated, no secret
    number = 0
    while True:
        yield _request(plan, number, rng)
        number += 1


def _request(plan: LoadPlan, number: int, rng: random.Random) -> Request:
    draw, new = rng.random(), rng.random() < plan.new_share
    if draw < plan.slow_share:
        path, wait = f"/slow?seconds={plan.slow_seconds:g}", plan.slow_seconds
        wire = _wire(plan, "GET", path, new)
        return Request(number, "GET", path, PathKind.SLOW, new, wire, SLOW_BODY, plan.timeout + wait)
    if draw < plan.slow_share + plan.post_share:
        body = rng.randbytes(rng.randint(1, MAX_BODY_BYTES))
        wire = _wire(plan, "POST", "/echo", new, body)
        return Request(number, "POST", "/echo", PathKind.ECHO, new, wire, body, plan.timeout)
    wire = _wire(plan, "GET", plan.fast_path, new)
    prefix = plan.fast_prefix.encode()
    return Request(number, "GET", plan.fast_path, PathKind.FAST, new, wire, prefix, plan.timeout)


def _wire(plan: LoadPlan, method: str, path: str, new: bool, body: bytes | None = None) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {plan.authority}\r\nUser-Agent: rota-load\r\n"
    if new:
        head += "Connection: close\r\n"
    if body is None:
        return f"{head}\r\n".encode("latin-1")
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
