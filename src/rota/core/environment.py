"""The variables of an app's environment: ``env:`` in rota.yaml; read by spec, and asked by the command line for those
that no replica sees."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from pydantic import Field, field_validator

from rota.core.model import Model, misplaced
from rota.core.names import EnvName
from rota.core.quantities import quoted

_RESERVED = frozenset({"PORT", "ROTA_APP", "ROTA_RELEASE", "ROTA_SLOT", "ROTA_REPLICA"})


class EnvVar(Model):
    name: EnvName
    value: str = Field(max_length=65536)

    @field_validator("value", mode="before")
    @classmethod
    def _scalar(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError('a text is expected: write "true" or "false" with quotes')
        return str(value) if isinstance(value, int | float) else value

    @field_validator("value")
    @classmethod
    def _no_nul(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("a value holds no NUL byte")
        return value


def variables_once(entries: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
    """The entries, or an error that carries the place of the first that repeats an earlier one."""
    seen: set[str] = set()
    for index, entry in enumerate(entries):
        if entry.name in seen:
            raise misplaced(f"{quoted(entry.name)} is given twice", (index, "name"))
        seen.add(entry.name)
    return entries


def unseen(entries: tuple[EnvVar, ...], reserved: Collection[str] = ()) -> Iterator[tuple[int, str]]:
    """The entries that rota sets to something else for each replica, with their places; ``reserved`` are further names
    of rota's."""
    for index, entry in enumerate(entries):
        if entry.name in _RESERVED or entry.name in reserved:
            yield index, entry.name
