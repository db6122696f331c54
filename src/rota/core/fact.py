"""A fact: what follows from a value, worked out when it is first asked for; the members' (core.member).

As functools.cached_property, without the lock that Python 3.11 still takes there, which costs more than what most of
these facts say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

_Of = TypeVar("_Of")
_Said = TypeVar("_Said")


class fact(Generic[_Of, _Said]):  # noqa: N801 - it is written as @property is
    def __init__(self, work_out: Callable[[_Of], _Said]) -> None:
        self._work_out = work_out

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, value: _Of, owner: Any) -> _Said:
        """Asked once: what it leaves in the value goes before it."""
        said = value.__dict__[self._name] = self._work_out(value)
        return said
