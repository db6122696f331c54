"""What of an app's file is about containers: the image, volumes, and how far a container is shut in; read by the Docker
runtime and part of core.spec.AppSpec."""

from __future__ import annotations

import enum
import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, field_validator, model_validator

from rota.core.model import Model, Switch
from rota.core.quantities import Whole, quoted

DEFAULT_PORT = 8080  # Haloy's: where an app in a container listens unless its file says otherwise
DEFAULT_TAG = "latest"

# The grammar of distribution/reference (github.com/distribution/reference): host, path, tag, digest.
_HOST = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::[0-9]{1,5})?/)?"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_HOST}{_PART}(?:/{_PART})*", re.ASCII)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)
_REFERENCE = re.compile(
    rf"(?P<repository>{_REPOSITORY.pattern})(?::(?P<tag>{_TAG.pattern}))?(?:@(?P<digest>{_DIGEST.pattern}))?", re.ASCII
)
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)
_CAPABILITY = re.compile(r"[A-Z][A-Z_]{1,40}", re.ASCII)


class PullPolicy(enum.Enum):
    """When a registry is asked for the image of a new release."""

    ALWAYS = "always"
    IF_MISSING = "if_missing"
    NEVER = "never"


def _matches(pattern: re.Pattern[str], what: str) -> AfterValidator:
    def check(value: str) -> str:
        if len(value) > 255 or not pattern.fullmatch(value):
            raise ValueError(f"{what} is expected, not {quoted(value)}")
        return value

    return AfterValidator(check)


def _path(value: str) -> str:
    if not value.startswith("/") or "\0" in value or ":" in value or ".." in value.split("/"):
        raise ValueError(f"an absolute path without .. and : is expected, not {quoted(value)}")
    return value


AbsolutePath = Annotated[str, AfterValidator(_path)]
Capability = Annotated[str, _matches(_CAPABILITY, "a capability such as NET_BIND_SERVICE")]
NetworkName = Annotated[str, _matches(_NAME, "a network's name")]
Repository = Annotated[str, _matches(_REPOSITORY, "an image's repository such as ghcr.io/me/app")]
Secret = Annotated[str, Field(max_length=65536)]


class Registry(Model):
    """Where the image comes from and as whom; without credentials the registry is asked as nobody."""

    server: Annotated[str, _matches(re.compile(r"[a-zA-Z0-9.-]+(:[0-9]{1,5})?"), "a registry's host")] | None = None
    username: Secret | None = None
    password: Secret | None = None


class Image(Model):
    """``image: ghcr.io/me/app:1.2`` or a section of its parts. A digest pins the image by itself, a tag is looked up
    once a release."""

    repository: Repository
    tag: Annotated[str, _matches(_TAG, "an image's tag")] | None = None
    digest: Annotated[str, _matches(_DIGEST, "a digest such as sha256:…")] | None = None
    pull: PullPolicy = PullPolicy.IF_MISSING
    registry: Registry | None = None

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = _REFERENCE.fullmatch(value) if len(value) <= 512 else None
        if found is None:
            raise ValueError(f"an image is expected, such as ghcr.io/me/app:1.2, not {quoted(value)}")
        return {name: part for name, part in found.groupdict().items() if part is not None}

    @property
    def reference(self) -> str:
        """As an engine takes it."""
        if self.digest is not None:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag or DEFAULT_TAG}"


class Volume(Model):
    """``name:/path`` or ``/on/the/host:/path``, with ``:ro`` behind it for one that is only read."""

    source: str
    target: AbsolutePath
    read_only: Switch = False

    @model_validator(mode="before")
    @classmethod
    def _written_short(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        source, _, rest = value.partition(":")
        target, _, mode = rest.partition(":")
        if not source or not target or mode not in ("", "ro", "rw"):
            raise ValueError(f"a volume is expected, such as uploads:/var/uploads or /srv/x:/x:ro, not {quoted(value)}")
        return {"source": source, "target": target, "read_only": mode == "ro"}

    @field_validator("source")
    @classmethod
    def _named_or_path(cls, value: str) -> str:
        if value.startswith("/"):
            return _path(value)
        if not _NAME.fullmatch(value):
            raise ValueError(f"a volume's name or an absolute path is expected, not {quoted(value)}")
        return value


CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
"""What a container keeps of Docker's fourteen: enough to take over files and to become another user at its start, and
to listen below 1024."""


class Container(Model):
    """``container:`` how far a replica is shut in. ``pids`` is the most processes it may have; ``init`` None: where the
    image has none of its own."""

    init: Switch | None = None
    pids: Whole = Field(default=1024, ge=1, le=4_194_304)
    read_only: Switch = False
    no_new_privileges: Switch = True
    capabilities: tuple[Capability, ...] = Field(default=CAPABILITIES, max_length=64)
