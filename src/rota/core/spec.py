"""What a person asks for in rota.yaml: one immutable model that gives the file, the API and the JSON schema.

Read from a file by core.specfile; a release keeps the one it was made from. Names and defaults are Haloy's where it
has the key (design.md, "File")."""

from __future__ import annotations

import enum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from rota.core.names import AppName, DomainName, EnvName, UserName
from rota.core.quantities import Seconds, Size

CLOUDLET_BYTES = 128 * 2**20  # V8: 1 cloudlet = 128 MiB
CLOUDLET_CPUS = 0.4  # V8: and 400 MHz, taken as 0.4 of a core as Virtuozzo's hosts do
MAX_DELAY = 300.0  # V4
MAX_MIN_READY = 600.0  # H2


class Strategy(enum.Enum):
    ROLLING = "rolling"
    REPLACE = "replace"


class Mode(enum.Enum):
    SEQUENTIAL = "sequential"
    SIMULTANEOUS = "simultaneous"


class Order(enum.Enum):
    START_FIRST = "start-first"
    STOP_FIRST = "stop-first"
    IN_PLACE = "in-place"


class FailureAction(enum.Enum):
    ROLLBACK = "rollback"
    PAUSE = "pause"
    CONTINUE = "continue"


class Model(BaseModel):
    """The base of every section: no unknown keys, no change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_enum_values=False)


class Limits(Model):
    """A replica's limits; None is "no limit". ``memory`` in bytes, ``cpus`` in cores."""

    memory: Size | None = Field(default=None, ge=4 * 2**20)
    cpus: float | None = Field(default=None, gt=0, le=1024)

    def written(self) -> str:
        parts = []
        if self.memory is not None:
            parts.append(f"memory {self.memory / 2**20:g} MiB")
        if self.cpus is not None:
            parts.append(f"cpus {self.cpus:g}")
        return ", ".join(parts) or "no limits"


def cloudlets(count: int) -> Limits:
    """V8's unit: 128 MiB and 400 MHz each."""
    return Limits(memory=count * CLOUDLET_BYTES, cpus=round(count * CLOUDLET_CPUS, 3))


class Resources(Model):
    """Limits as written: memory and cpus, or cloudlets, never both."""

    memory: Size | None = Field(default=None, ge=4 * 2**20)
    cpus: float | None = Field(default=None, gt=0, le=1024)
    cloudlets: int | None = Field(default=None, ge=1, le=4096)

    @model_validator(mode="after")
    def _one_unit(self) -> Self:
        if self.cloudlets is not None and (self.memory is not None or self.cpus is not None):
            raise ValueError("give cloudlets, or memory and cpus, not both")
        return self

    def limits(self) -> Limits:
        if self.cloudlets is not None:
            return cloudlets(self.cloudlets)
        return Limits(memory=self.memory, cpus=self.cpus)


class Domain(Model):
    domain: DomainName


class EnvVar(Model):
    name: EnvName
    value: str = Field(max_length=65536)

    @field_validator("value", mode="before")
    @classmethod
    def _scalar(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError('true and false are not texts; write "true" or "false" with quotes')
        return str(value) if isinstance(value, int | float) else value

    @field_validator("value")
    @classmethod
    def _no_nul(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("a value holds no NUL byte")
        return value


class HealthCheck(Model):
    """Times in seconds; ``fall`` and ``rise`` count checks in a row (H3, W5)."""

    type: Literal["http", "tcp"] = "http"
    path: str | None = Field(default=None, pattern=r"^/[!-~]*$", max_length=1024)
    interval: Seconds = Field(default=2.0, ge=0.1, le=3600)
    fast_interval: Seconds = Field(default=0.5, ge=0.05, le=3600)
    timeout: Seconds = Field(default=2.0, ge=0.05, le=600)
    fall: int = Field(default=3, ge=1, le=100)
    rise: int = Field(default=2, ge=1, le=100)
    start_period: Seconds = Field(default=0.0, ge=0, le=3600)
    start_interval: Seconds = Field(default=0.1, ge=0.01, le=60)


def _percent(value: object) -> object:
    if isinstance(value, str) and value.endswith("%") and value[:-1].isdigit():
        share = int(value[:-1])
        if not 1 <= share <= 100:
            raise ValueError(f"{value} is not between 1% and 100%")
        return value
    if isinstance(value, str) and value.isdigit():
        return int(value)
    return value


Parallelism = Annotated[int | str, BeforeValidator(_percent)]


class RolloutOptions(Model):
    """``rollout:`` in the file and the policy flags of a command; None means "by default" (core.policy)."""

    mode: Mode | None = None
    parallelism: Parallelism | None = None
    order: Order | None = None
    delay: Seconds | None = None
    min_available: int | None = Field(default=None, ge=0, le=1000)
    failure_action: FailureAction | None = None
    monitor: Seconds | None = Field(default=None, le=3600)
    max_failure_ratio: float | None = Field(default=None, ge=0, le=1)
    progress_deadline: Seconds | None = Field(default=None, ge=1, le=86400)

    @field_validator("delay")
    @classmethod
    def _delay_range(cls, value: float | None) -> float | None:
        if value is not None and value > MAX_DELAY:
            raise ValueError(f"a delay is 0 to {MAX_DELAY:g} seconds, not {value:g}")
        return value

    @field_validator("parallelism")
    @classmethod
    def _at_least_one(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, int) and value < 1:
            raise ValueError("parallelism is at least 1")
        if isinstance(value, str) and not value.endswith("%"):
            raise ValueError(f"{value!r} is neither a number nor a percentage such as 25%")
        return value

    def over(self, other: RolloutOptions) -> RolloutOptions:
        """These options where they are given, the other's where not."""
        given = {name: value for name, value in self if value is not None}
        return other.model_copy(update=given)


class Drain(Model):
    timeout: Seconds = Field(default=30.0, ge=0, le=86400)


class Restart(Model):
    """How often and how slowly a replica that does not come up is tried again (S5)."""

    attempts: int = Field(default=20, ge=1, le=1000)
    delay: Seconds = Field(default=1.0, ge=0.01, le=3600)
    max_delay: Seconds = Field(default=300.0, ge=0.01, le=86400)
    give_up: bool = False


class AppSpec(Model):
    """One app, as its file describes it."""

    name: AppName
    replicas: int = Field(default=1, ge=1, le=1000)
    deployment_strategy: Strategy = Strategy.ROLLING
    domains: tuple[Domain, ...] = ()
    health_check_path: str | None = Field(default=None, pattern=r"^/[!-~]*$", max_length=1024)
    health_check: HealthCheck = HealthCheck()
    min_ready_seconds: Seconds = 0.0
    boot_timeout: Seconds = Field(default=60.0, ge=0.1, le=3600)
    stop_grace_period: Seconds = Field(default=30.0, ge=0, le=3600)
    stop_signal: Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"] = "SIGTERM"
    command: tuple[Annotated[str, Field(max_length=65536)], ...] = Field(min_length=1)
    build_command: tuple[str, ...] | None = Field(default=None, min_length=1)
    user: UserName | None = None
    env: tuple[EnvVar, ...] = ()
    resources: Resources = Resources()
    rollout: RolloutOptions = RolloutOptions()
    drain: Drain = Drain()
    restart: Restart = Restart()

    @field_validator("min_ready_seconds")
    @classmethod
    def _min_ready_range(cls, value: float) -> float:
        if value > MAX_MIN_READY:
            raise ValueError(f"min_ready_seconds is 0 to {MAX_MIN_READY:g}, not {value:g}")
        return value

    @field_validator("command", "build_command")
    @classmethod
    def _no_nul(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and any("\0" in word for word in value):
            raise ValueError("a command holds no NUL byte")
        return value

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names that lead to the app: its domains, else ``<name>.localhost`` (RFC 6761 keeps that name
        on the loopback), so that a first app is reachable without any set-up."""
        return tuple(entry.domain for entry in self.domains) or (f"{self.name}.localhost",)

    @property
    def check_path(self) -> str | None:
        """The path of the HTTP health check; None means a TCP check."""
        if self.health_check.type == "tcp":
            return None
        return self.health_check.path or self.health_check_path

    @property
    def limits(self) -> Limits:
        return self.resources.limits()
