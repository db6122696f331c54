"""How HAProxy chooses the replica of a request that no cookie leads: ``balance:`` in rota.yaml; read by spec and
backend."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field

from rota.core.model import Model, misplaced
from rota.core.quantities import quoted

_HEADER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)  # of RFC 9110's tokens those that no file reads otherwise
_BY_HEADER = "header:"


class Balance(enum.Enum):
    ROUND_ROBIN = "round-robin"
    LEASTCONN = "leastconn"
    RANDOM = "random"
    SOURCE = "source"


def header_name(text: str) -> str:
    """The name of an HTTP header; raises ValueError for any other text."""
    if len(text) > 64 or not _HEADER.fullmatch(text):
        raise ValueError(f"the name of a header is expected, such as X-User, not {quoted(text)}")
    return text


class ByHeader(Model):
    """Requests with the same value of a header go to the same replica; those without it to the next one."""

    header: Annotated[str, AfterValidator(header_name)]


def written(balance: Balance | ByHeader) -> str:
    """As a Backend keeps it: one text."""
    return f"{_BY_HEADER}{balance.header}" if isinstance(balance, ByHeader) else balance.value


def header_of(balance: str) -> str | None:
    """The header that a Backend's balance goes by; None when it goes by none. Raises ValueError for what is none."""
    return header_name(balance.removeprefix(_BY_HEADER)) if balance.startswith(_BY_HEADER) else None


def _balance(value: object) -> object:
    """Judged here and not by the union, whose errors would say what each of its members did not like."""
    if isinstance(value, Balance | ByHeader):
        return value
    if isinstance(value, Mapping):
        return _by_header(value)
    if isinstance(value, str) and value in {way.value for way in Balance}:
        return Balance(value)
    ways = ", ".join(way.value for way in Balance)
    raise ValueError(f"{ways} or a section with header is expected, not {quoted(value)}")


def _by_header(section: Mapping[object, object]) -> ByHeader:
    for key in section:
        if key != "header":
            raise misplaced(f"unknown key {quoted(key)}; known here: header", [str(key)])
    name = section.get("header")
    if not isinstance(name, str):
        raise misplaced(f"the name of a header is expected, such as X-User, not {quoted(name)}", ["header"])
    try:
        return ByHeader(header=header_name(name))
    except ValueError as error:
        raise misplaced(str(error), ["header"]) from None


BalanceOrHeader = Annotated[Balance | ByHeader, BeforeValidator(_balance), Field(validate_default=False)]
