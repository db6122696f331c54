"""The names that people choose or that rota gives, validated by type; everything that reaches a file, a path
or a socket line goes through one of them."""

from __future__ import annotations

import re
from typing import Annotated, NewType

from pydantic import AfterValidator

ReplicaId = NewType("ReplicaId", str)
"""``<app>-<number>``; the number counts up for an app and is never used again."""

RolloutId = NewType("RolloutId", str)
"""``<app>.<number>``; the number is the rollout's generation."""

_APP = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", re.ASCII)
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*", re.ASCII)
_ENV = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}|[0-9]{1,10}", re.ASCII)


def app_name(text: str) -> str:
    """A DNS label of at most 40 characters: it becomes a host name, a directory and a HAProxy backend."""
    if not _APP.fullmatch(text):
        raise ValueError(f"{text!r} is not an app name: 1 to 40 of a-z, 0-9 and '-', neither first nor last a '-'")
    return text


def domain_name(text: str) -> str:
    """A host name (RFC 1123), lower-cased."""
    lowered = text.lower()
    if len(lowered) > 253 or not _DOMAIN.fullmatch(lowered):
        raise ValueError(f"{text!r} is not a domain name")
    return lowered


def env_name(text: str) -> str:
    """A POSIX environment variable name."""
    if not _ENV.fullmatch(text):
        raise ValueError(f"{text!r} is not a name of an environment variable")
    return text


def user_name(text: str) -> str:
    """A Unix user name, or a number."""
    if not _USER.fullmatch(text):
        raise ValueError(f"{text!r} is not a user name")
    return text


def replica_id(app: str, number: int) -> ReplicaId:
    return ReplicaId(f"{app}-{number}")


def replica_number(replica: ReplicaId) -> int:
    return int(replica.rpartition("-")[2])


def rollout_id(app: str, generation: int) -> RolloutId:
    return RolloutId(f"{app}.{generation}")


AppName = Annotated[str, AfterValidator(app_name)]
DomainName = Annotated[str, AfterValidator(domain_name)]
EnvName = Annotated[str, AfterValidator(env_name)]
UserName = Annotated[str, AfterValidator(user_name)]
