"""Stickiness as rota.yaml has it (W4): the cookie that keeps a user on one replica; read by spec and backend."""

from __future__ import annotations

import enum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from rota.core.model import Model, Switch
from rota.core.quantities import Seconds, quoted

MAX_COOKIE_AGE = 400 * 86400.0  # browsers keep no cookie for longer (RFC 6265bis, section 5.5)


class SameSite(enum.Enum):
    """Whether browsers send the cookie with requests that another site made (RFC 6265bis, section 5.6.7)."""

    LAX = "lax"
    STRICT = "strict"
    NONE = "none"


def _age(value: float) -> float:
    if not 1 <= value <= MAX_COOKIE_AGE:
        raise ValueError(f"1 second to {MAX_COOKIE_AGE / 86400:g} days are allowed, not {value:g} seconds")
    return value


class Sticky(Model):
    """The cookie that keeps a user on one replica (W4); without ``max_age`` the browser forgets it when it ends.
    ``secure``: browsers send it over https alone, for an app behind a proxy that ends TLS."""

    cookie: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=64)] = "rota"
    max_age: Annotated[Seconds, AfterValidator(_age)] | None = None
    secure: Switch = False
    same_site: SameSite = SameSite.LAX

    @field_validator("same_site", mode="before")
    @classmethod
    def _any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value  # Lax, as the header has it

    @field_validator("same_site")
    @classmethod
    def _none_is_secure(cls, value: SameSite, read: ValidationInfo) -> SameSite:
        if value is SameSite.NONE and not read.data.get("secure", True):
            raise ValueError("browsers refuse a cookie with none that is not secure; add secure: true")
        return value


def _sticky(value: object) -> object:
    """``true`` is the section with nothing in it, ``false`` is none."""
    if isinstance(value, bool):
        return {} if value else None
    if value is None or isinstance(value, dict | Sticky):
        return value
    raise ValueError(f"true, or a section with cookie and max_age, is expected, not {quoted(value)}")


def _or_switch(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"type": "boolean"})


StickyOrSwitch = Annotated[Sticky | None, BeforeValidator(_sticky), Field(json_schema_extra=_or_switch)]
