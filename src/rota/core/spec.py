"""What a person asks for in rota.yaml: one immutable model that gives the file, the API and the JSON schema.

Read from a file by core.specfile; a release keeps the one it was made from. Names and defaults are Haloy's where it
has the key (design.md, "File")."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from rota.core.balance import Balance, BalanceOrHeader
from rota.core.container import Container, Image, NetworkName, Volume
from rota.core.domains import Domain, Site, check_host, each_once
from rota.core.environment import EnvVar, variables_once
from rota.core.healthcheck import Check, ImageCheck, UrlPath
from rota.core.healthcheck import HealthCheck as HealthCheck
from rota.core.http import LEAST_RESPONSE_TIMEOUT, HttpOptions
from rota.core.model import Command, Switch, Words, misplaced, no_nul
from rota.core.model import Model as Model
from rota.core.names import AppName, UserName

# The part of the file's model with a module of its own is the spec's all the same.
from rota.core.options import NO_WAY_BACK, contradiction
from rota.core.options import FailureAction as FailureAction
from rota.core.options import Mode as Mode
from rota.core.options import Order as Order
from rota.core.options import Overlap as Overlap
from rota.core.options import RolloutOptions as RolloutOptions
from rota.core.options import Strategy as Strategy
from rota.core.options import UpdateConfig as UpdateConfig
from rota.core.pages import ErrorPages, seen
from rota.core.quantities import Seconds, Size, Whole, between, quoted
from rota.core.sticky import StickyOrSwitch
from rota.core.tcp import Listener, Port, TcpPort, apart
from rota.core.weights import SlotWeights, Weights, within

CLOUDLET_BYTES = 128 * 2**20  # V8: 1 cloudlet = 128 MiB
CLOUDLET_CPUS = 0.4  # V8: and 400 MHz, taken as 0.4 of a core as Virtuozzo's hosts do
MAX_DRAIN = 3600.0  # the balancer keeps a process that a reload replaced for a little longer than this
MAX_MIN_READY = 600.0  # H2
MAX_KEEP_OLD = 86400.0  # a day: each kept replica costs what a serving one does

LEAST_MEMORY = 4 * 2**20  # below it no interpreter starts


def _enough_memory(value: int) -> int:
    if value < LEAST_MEMORY:
        raise ValueError(f"at least 4 MiB are needed, not {value:,} bytes; a bare number is bytes")
    return value


Memory = Annotated[Size, AfterValidator(_enough_memory)]
Cpus = Annotated[float, Field(strict=True, gt=0, le=1024, allow_inf_nan=False)]


class Limits(Model):
    """A replica's limits; None is "no limit". ``memory`` in bytes, ``cpus`` in cores."""

    memory: Memory | None = None
    cpus: Cpus | None = None

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

    memory: Memory | None = None
    cpus: Cpus | None = None
    cloudlets: Whole | None = Field(default=None, ge=1, le=4096)

    @field_validator("cloudlets")
    @classmethod
    def _one_unit(cls, value: int | None, read: ValidationInfo) -> int | None:
        if value is not None and (read.data.get("memory") is not None or read.data.get("cpus") is not None):
            raise ValueError("give cloudlets, or memory and cpus, not both")
        return value

    def limits(self) -> Limits:
        if self.cloudlets is not None:
            return cloudlets(self.cloudlets)
        return Limits(memory=self.memory, cpus=self.cpus)


def _notify_url(value: str) -> str:
    if not re.fullmatch(r"[a-z][a-z0-9]*://\S+", value, re.ASCII | re.IGNORECASE):
        raise ValueError(f"an address is expected, such as mailto://…, json://… or slack://…, not {quoted(value)}")
    return value


NotifyUrl = Annotated[str, Field(max_length=4096), AfterValidator(_notify_url)]


def _drain_timeout(value: float) -> float:
    if not 0 <= value <= MAX_DRAIN:
        raise ValueError(
            f"0 to {MAX_DRAIN:g} seconds are allowed, not {value:g}: an old HAProxy process is not kept for longer"
        )
    return value


class Drain(Model):
    """``timeout`` ends the wait for sessions, and after it once more the wait for what is open; ``session_timeout``
    None is as long as it."""

    timeout: Annotated[Seconds, AfterValidator(_drain_timeout)] = 30.0
    session_timeout: Annotated[Seconds, AfterValidator(_drain_timeout)] | None = None


class WarmUp(Model):
    """What a new replica is spared (J4): ``requests`` are sent to it before users' are, and its share of theirs grows
    over ``slow_start``, longer while it is slower than the others. ``path`` None is the health check's, else ``/``."""

    requests: Whole = Field(default=0, ge=0, le=1000)
    path: UrlPath | None = None
    slow_start: Annotated[Seconds, between(0, 3600)] = 0.0


class Restart(Model):
    """How often and how slowly a replica that does not come up is tried again (S5)."""

    attempts: Whole = Field(default=20, ge=1, le=1000)
    delay: Annotated[Seconds, between(0.01, 3600)] = 1.0
    max_delay: Annotated[Seconds, between(0.01, 86400)] = Field(default=300.0, validate_default=True)
    give_up: Switch = False

    @field_validator("max_delay")
    @classmethod
    def _not_below_the_first(cls, value: float, read: ValidationInfo) -> float:
        if value < read.data.get("delay", 0.0):
            raise ValueError(f"the first delay of {read.data['delay']:g} s is longer than max_delay, {value:g} s")
        return value


class Repair(Model):
    """What becomes of a replica that runs and is unhealthy (H3): replaced when that has lasted, few at once."""

    unhealthy_grace: Annotated[Seconds, between(0, 86400)] = 30.0
    max_at_once: Whole = Field(default=1, ge=1, le=1000)


CommandOrNone = Annotated[Words, Field(max_length=10_000), AfterValidator(no_nul)]


class AppSpec(Model):
    """One app, as its file describes it. It has a ``command``, an ``image``, or both: then the command is run in a
    container of that image."""

    name: AppName
    image: Image | None = None
    replicas: Whole = Field(default=1, ge=1, le=1000)
    deployment_strategy: Strategy = Strategy.ROLLING
    domains: tuple[Domain, ...] = Field(default=(), max_length=1000)
    port: Port | None = None
    ports: tuple[TcpPort, ...] = Field(default=(), max_length=100)
    health_check_path: UrlPath | None = None
    health_check: HealthCheck = HealthCheck()
    min_ready_seconds: Annotated[Seconds, between(0, MAX_MIN_READY)] = 0.0
    boot_timeout: Annotated[Seconds, between(0.1, 3600)] = 60.0
    stop_grace_period: Annotated[Seconds, between(0, 3600)] = 30.0
    stop_signal: Literal["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"] = "SIGTERM"
    command: CommandOrNone = Field(default=(), validate_default=True)
    build_command: Command | None = None
    user: UserName | None = None
    env: tuple[EnvVar, ...] = Field(default=(), max_length=10_000)
    volumes: tuple[Volume, ...] = Field(default=(), max_length=100)
    network: NetworkName | None = None
    container: Container = Container()
    resources: Resources = Resources()
    overlap: Overlap = Overlap.ALLOW
    keep_old: Annotated[Seconds, between(0, MAX_KEEP_OLD)] = 600.0
    rollout: RolloutOptions = RolloutOptions()
    update_config: UpdateConfig | None = None
    rollback: RolloutOptions = RolloutOptions()
    rollback_config: UpdateConfig | None = None
    balance: BalanceOrHeader = Balance.ROUND_ROBIN
    weights: Weights = ()
    sticky: StickyOrSwitch = None
    http: HttpOptions = HttpOptions()
    error_pages: ErrorPages = ()
    drain: Drain = Drain()
    warm_up: WarmUp = WarmUp()
    restart: Restart = Restart()
    repair: Repair = Repair()
    notify: tuple[NotifyUrl, ...] = Field(default=(), max_length=20)

    @field_validator("health_check")
    @classmethod
    def _something_with_a_body(cls, value: HealthCheck, read: ValidationInfo) -> HealthCheck:
        if value.expect_body is not None and value.path is None and read.data.get("health_check_path", ...) is None:
            raise misplaced("give the path too whose answer has it, such as path: /health", ["expect_body"])
        return value

    @field_validator("domains")
    @classmethod
    def _domains_once(cls, value: tuple[Domain, ...]) -> tuple[Domain, ...]:
        return each_once(value)

    @field_validator("weights")
    @classmethod
    def _of_slots_there(cls, value: SlotWeights, read: ValidationInfo) -> SlotWeights:
        return within(value, read.data["replicas"]) if "replicas" in read.data else value

    @field_validator("ports")
    @classmethod
    def _ports_apart(cls, value: tuple[TcpPort, ...], read: ValidationInfo) -> tuple[TcpPort, ...]:
        return apart(value, read.data.get("port"))

    @field_validator("env")
    @classmethod
    def _env_once(cls, value: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
        return variables_once(value)

    @field_validator("overlap")
    @classmethod
    def _overlap_fits(cls, value: Overlap, read: ValidationInfo) -> Overlap:
        if value is Overlap.FORBID and read.data.get("deployment_strategy") is Strategy.BLUE_GREEN:
            raise ValueError("forbid contradicts deployment_strategy: blue-green, which runs two generations at once")
        return value

    @field_validator("rollout", "rollback")
    @classmethod
    def _no_contradiction(cls, value: RolloutOptions, read: ValidationInfo) -> RolloutOptions:
        found = contradiction(value, read.data.get("deployment_strategy"), read.data.get("overlap"))
        if found is not None:
            raise misplaced(found[1], [found[0]])
        if read.field_name == "rollback" and value.failure_action is FailureAction.ROLLBACK:
            raise misplaced(NO_WAY_BACK, ["failure_action"])
        return value

    @field_validator("update_config", "rollback_config")
    @classmethod
    def _one_name(cls, value: UpdateConfig | None, read: ValidationInfo) -> UpdateConfig | None:
        """Held to the same rules as the section that it is another name of, and never beside that one."""
        if value is None:
            return None
        own = "rollout" if read.field_name == "update_config" else "rollback"
        if read.data.get(own, RolloutOptions()) != RolloutOptions():
            raise ValueError(f"this is Compose's name of {own}, which is given too; keep one of the two")
        found = contradiction(value.written(), read.data.get("deployment_strategy"), read.data.get("overlap"))
        if found is not None:
            raise misplaced(found[1], [found[0]])
        if own == "rollback" and value.failure_action is FailureAction.ROLLBACK:
            raise misplaced(NO_WAY_BACK, ["failure_action"])
        return value

    @field_validator("error_pages")
    @classmethod
    def _pages_seen(cls, value: ErrorPages, read: ValidationInfo) -> ErrorPages:
        return seen(value, below=any(site.path for entry in read.data.get("domains", ()) for site, _ in entry.sites()))

    @field_validator("drain")
    @classmethod
    def _sessions_to_wait_for(cls, value: Drain, read: ValidationInfo) -> Drain:
        if value.session_timeout is not None and "sticky" in read.data and read.data["sticky"] is None:
            raise misplaced("only a sticky app has sessions to wait for; add sticky: true", ["session_timeout"])
        return value

    @field_validator("command")
    @classmethod
    def _something_to_run(cls, value: tuple[str, ...], read: ValidationInfo) -> tuple[str, ...]:
        if not value and read.data.get("image", ...) is None:
            raise PydanticCustomError("missing", "missing")
        return value

    @field_validator("build_command")
    @classmethod
    def _built_of_a_directory(cls, value: tuple[str, ...] | None, read: ValidationInfo) -> tuple[str, ...] | None:
        if value is not None and read.data.get("image") is not None:
            raise ValueError("it builds an uploaded directory, and an image has none; build the image with it instead")
        return value

    @property
    def rollout_options(self) -> RolloutOptions:
        if self.update_config is None:
            return self.rollout
        return self.update_config.options(by_order=self._by_order)

    @property
    def rollback_options(self) -> RolloutOptions:
        """Over ``rollout_options``; Compose's section takes nothing from that one, not its delay either."""
        if self.rollback_config is None:
            return self.rollback
        return self.rollback_config.options(by_order=self._by_order).over(RolloutOptions(delay=0.0))

    @property
    def _by_order(self) -> bool:
        """Stop-first, Compose's default, would leave nobody serving where there is one replica."""
        rolling = self.deployment_strategy is Strategy.ROLLING and self.overlap is Overlap.ALLOW
        return rolling and self.replicas > 1

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the app is reached: its domains, else ``<name>.localhost`` (RFC 6761 keeps that name on the loopback),
        so that a first app is reachable without any set-up."""
        if not self.serves_http:
            return ()
        return tuple(site for entry in self.domains for site, _ in entry.sites()) or (Site(f"{self.name}.localhost"),)

    @property
    def serves_http(self) -> bool:
        """An app of TCP services is not asked for HTTP unless it has a domain or a port for that."""
        return not self.ports or bool(self.domains) or self.port is not None

    @property
    def main_port(self) -> int | None:
        """Which port of a container is its ``PORT``; None where the file leaves that to the runtime."""
        return self.port if self.serves_http else self.ports[0].target

    @property
    def listeners(self) -> tuple[Listener, ...]:
        return tuple(entry.listener for entry in self.ports)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The host names among the sites, those that lead on to another one too; no wildcards."""
        return tuple(dict.fromkeys(site.host for site in self.sites if not site.wild))

    @property
    def check_host(self) -> str:
        """The host name that health checks ask for."""
        return check_host(map(str, self.sites))

    def with_image_check(self, image: ImageCheck | None) -> AppSpec:
        """With the image's own health check, where the file says nothing of what is checked."""
        if image is None or not self.health_check.leaves_to_image(self.health_check_path):
            return self
        return self.model_copy(update={"health_check": self.health_check.filled(image)})

    @property
    def check(self) -> Check:
        """The health check as the file has it."""
        return self.health_check.in_force(self.health_check_path)

    @property
    def check_path(self) -> str | None:
        """The path of the HTTP health check; None means a TCP check."""
        return self.check.path

    @property
    def warm_up_path(self) -> str:
        return self.warm_up.path or self.check_path or "/"

    @property
    def limits(self) -> Limits:
        return self.resources.limits()

    @property
    def session_timeout(self) -> float | None:
        """Seconds without a request after which a draining replica's sessions are over; None: it has none."""
        if self.sticky is None:
            return None
        return self.drain.timeout if self.drain.session_timeout is None else self.drain.session_timeout

    @property
    def response_timeout(self) -> float:
        """Seconds that a replica may be silent for; a request that a drain would wait for is not cut before."""
        given = self.http.response_timeout
        return max(LEAST_RESPONSE_TIMEOUT, self.drain.timeout) if given is None else given

    @property
    def drain_time(self) -> float:
        """The longest time, in seconds, from a hand-off's beginning to the replica's stop signal."""
        return self.drain.timeout if self.sticky is None else 2 * self.drain.timeout
