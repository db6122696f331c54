"""How a replica is checked (H3, W5): as a person writes it in rota.yaml, and what is in force for a release; part of
core.spec.AppSpec, read by readiness and repair, by the daemon's prober and for HAProxy's own check."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rota.core.model import Command, Model
from rota.core.quantities import Seconds, Whole, between, written_seconds

MOST_TEXT = 256  # characters of expect_body and service: a line of haproxy.cfg holds them
BODY_SEARCHED = (
    8192  # bytes of an answer's body that it is looked for in: they fit one buffer of HAProxy's, headers too
)


class Kind(enum.Enum):
    """What is asked of a replica."""

    HTTP = "http"
    TCP = "tcp"
    EXEC = "exec"
    GRPC = "grpc"


@dataclass(frozen=True)
class Check:
    """What is in force: times in seconds, ``fall`` and ``rise`` count checks in a row. ``path`` and ``expect_body`` are
    of HTTP; without the latter any body will do. ``command`` is of exec, ``service`` of gRPC ("" is the whole
    server)."""

    kind: Kind = Kind.TCP
    path: str | None = None
    expect_body: str | None = None
    interval: float = 2.0
    fast_interval: float = 0.5
    timeout: float = 1.5  # that ``late_if_it_hangs`` has nothing to say
    fall: int = 3
    rise: int = 2
    start_period: float = 0.0
    start_interval: float = 0.1
    command: tuple[str, ...] = ()
    service: str = ""

    @property
    def by_daemon(self) -> bool:
        """HAProxy cannot ask this: in rotation too it is the daemon that does, and HAProxy tries TCP beside it."""
        return self.kind in (Kind.EXEC, Kind.GRPC)

    @property
    def out_within(self) -> float:
        """Seconds in which a replica that falls ill is to get no more requests."""
        return self.fall * self.interval + self.timeout

    @property
    def hung_out_within(self) -> float:
        """Seconds that it takes at most of one that answers nothing, so that each check takes its time, and that fell
        ill just after it had passed one. HAProxy counts the time between two checks from the end of the first, the
        daemon from its beginning."""
        if self.by_daemon:
            apart = max(self.timeout, min(self.fast_interval, self.interval))
            return self.interval + (self.fall - 1) * apart + self.timeout
        connecting = min(CONNECTING, self.interval)
        each = max(self.timeout, connecting) if self.kind is Kind.HTTP else connecting
        return self.interval + (self.fall - 1) * (each + self.fast_interval) + each

    def late_if_it_hangs(self) -> str:
        """What is said to whoever wrote a check that keeps a replica that hangs in rotation for longer than one that
        answers wrongly; "" where it does not."""
        if self.hung_out_within <= self.out_within + _ROUNDING:
            return ""
        way_out = (
            "timeout should be no more than interval"
            if self.by_daemon
            else f"timeout + fast_interval should be no more than interval, timeout {CONNECTING:g} s or more"
        )
        return (
            "health_check: a replica that answers nothing gets requests for up to "
            f"{written_seconds(self.hung_out_within)}, not {written_seconds(self.out_within)}: {way_out}"
        )


_DEFAULT = Check()
CONNECTING = 1.0
"""Seconds that HAProxy tries to connect to a replica. Version 2.6 does not give up an HTTP check before that time, or
an ``interval`` if it is shorter, has passed, whatever the timeout says (measured; 2.8 does)."""
_ROUNDING = 1e-6  # of sums of seconds


@dataclass(frozen=True)
class ImageCheck:
    """An image's own HEALTHCHECK. None: it does not say, and then the engine's documented default holds, which is what
    whoever wrote it relied on; the time between checks of a replica that starts is rota's."""

    command: tuple[str, ...]
    interval: float | None = None
    timeout: float | None = None
    retries: int | None = None
    start_period: float | None = None
    start_interval: float | None = None


_ENGINES = ImageCheck((), interval=30.0, timeout=30.0, retries=3, start_period=0.0)


Number = TypeVar("Number", int, float)


def _one_line(value: str) -> str:
    if not value.isprintable():
        raise ValueError("a text on one line is expected, without control characters")
    return value


UrlPath = Annotated[str, Field(pattern=r"^/[!-~]*$", max_length=1024)]
OneLine = Annotated[str, Field(min_length=1, max_length=MOST_TEXT), AfterValidator(_one_line)]


class HealthCheck(Model):
    """As written. None: the file does not say, and what it means by that is for ``in_force`` to know."""

    type: Literal["http", "tcp", "exec", "grpc", "none"] | None = None
    command: Command | None = Field(default=None, validate_default=True)
    service: OneLine | None = None
    path: UrlPath | None = None
    expect_body: OneLine | None = None
    interval: Annotated[Seconds, between(0.1, 3600)] | None = None
    fast_interval: Annotated[Seconds, between(0.05, 3600)] = _DEFAULT.fast_interval
    timeout: Annotated[Seconds, between(0.05, 600)] | None = None
    fall: Whole | None = Field(default=None, ge=1, le=100)
    rise: Whole = Field(default=_DEFAULT.rise, ge=1, le=100)
    start_period: Annotated[Seconds, between(0, 3600)] | None = None
    start_interval: Annotated[Seconds, between(0.01, 60)] | None = None

    @field_validator("command")
    @classmethod
    def _of_an_exec(cls, value: tuple[str, ...] | None, read: ValidationInfo) -> tuple[str, ...] | None:
        kind = read.data.get("type")
        if value is None and kind == "exec":
            raise PydanticCustomError("missing", "missing")
        if value is not None and kind not in (None, "exec"):
            raise ValueError(f"only type: exec runs a command, and type: {kind} is given")
        return value

    @field_validator("service")
    @classmethod
    def _of_grpc(cls, value: str | None, read: ValidationInfo) -> str | None:
        if value is not None and read.data.get("type") != "grpc":
            raise ValueError("only type: grpc asks for a service; add that")
        return value

    @field_validator("path")
    @classmethod
    def _of_a_request(cls, value: str | None, read: ValidationInfo) -> str | None:
        without = read.data.get("type") in ("exec", "grpc", "none") or read.data.get("command") is not None
        if value is not None and without:
            raise ValueError("only type: http asks for a path")
        return value

    @field_validator("expect_body")
    @classmethod
    def _of_an_answer(cls, value: str | None, read: ValidationInfo) -> str | None:
        kind = "exec" if read.data.get("command") is not None else read.data.get("type")
        if value is not None and kind not in (None, "http"):
            raise ValueError(f"only an HTTP answer has a body; type: {kind} asks for none")
        return value

    def in_force(self, app_path: str | None) -> Check:
        """``app_path`` is the app's ``health_check_path``, which a path of the section's own goes before."""
        return _in_force(self, app_path)

    def leaves_to_image(self, app_path: str | None) -> bool:
        """Whether it says nothing of what is checked, so that an image may."""
        return self.type is None and self.kind(app_path) is Kind.TCP

    def filled(self, image: ImageCheck) -> HealthCheck:
        """What it leaves out is as the image has it, within what a file may say."""
        return _filled(self, image)

    def kind(self, app_path: str | None) -> Kind:
        """Without a path and a command, an accepted connection is all that ``http`` asks for."""
        if self.command is not None:
            return Kind.EXEC
        if self.type == "grpc":
            return Kind.GRPC
        return Kind.HTTP if self.type in (None, "http") and (self.path or app_path) else Kind.TCP


@lru_cache(maxsize=4096)  # asked several times a decision
def _in_force(written: HealthCheck, app_path: str | None) -> Check:
    kind = written.kind(app_path)
    path = (written.path or app_path) if kind is Kind.HTTP else None
    return Check(
        kind=kind,
        path=path,
        expect_body=written.expect_body,
        command=written.command or (),
        service=written.service or "",
        interval=_DEFAULT.interval if written.interval is None else written.interval,
        fast_interval=written.fast_interval,
        timeout=_DEFAULT.timeout if written.timeout is None else written.timeout,
        fall=_DEFAULT.fall if written.fall is None else written.fall,
        rise=written.rise,
        start_period=_DEFAULT.start_period if written.start_period is None else written.start_period,
        start_interval=_DEFAULT.start_interval if written.start_interval is None else written.start_interval,
    )


@lru_cache(maxsize=4096)
def _filled(written: HealthCheck, image: ImageCheck) -> HealthCheck:
    said = {
        "interval": _first(written.interval, _within(image.interval, 0.1, 3600), _ENGINES.interval),
        "timeout": _first(written.timeout, _within(image.timeout, 0.05, 600), _ENGINES.timeout),
        "fall": _first(written.fall, _within(image.retries, 1, 100), _ENGINES.retries),
        "start_period": _first(written.start_period, _within(image.start_period, 0, 3600), _ENGINES.start_period),
        "start_interval": _first(written.start_interval, _within(image.start_interval, 0.01, 60)),
    }
    return written.model_copy(update={"type": "exec", "command": image.command, **said})


def _first(*values: Number | None) -> Number | None:
    return next((value for value in values if value is not None), None)


def _within(value: Number | None, low: Number, high: Number) -> Number | None:
    return None if value is None else min(max(value, low), high)
