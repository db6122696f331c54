"""Which values the fields of a child may have: asked by the keeper's requests and, for files, its shelf."""

import os
import re
from collections.abc import Callable
from typing import Any

from .listeners import PLACE
from .record import ORDER_KEYS, State

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,80}")


class MalformedError(ValueError):
    """What came in is not a child: the sender has to change it."""


def check_name(name: object) -> str:
    """A name that is safe as a file's; raises MalformedError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MalformedError("name must match [a-z0-9][a-z0-9._-]{0,80}")
    return name


def check_order(order: object) -> dict[str, Any]:
    """The caller's part of a record, or some keys of it; raises MalformedError naming the key."""
    if not isinstance(order, dict):
        raise MalformedError("a child must be an object")
    if unknown := sorted(set(order) - ORDER_KEYS):
        raise MalformedError(f"unknown key {unknown[0]!r} in child")
    for key, value in order.items():
        if not CHECKS[key](value):
            raise MalformedError(f"bad value for {key!r} in child")
    return order


def _is_text(value: object) -> bool:
    """Text that the kernel takes: no NUL, nothing that has no bytes."""
    if not isinstance(value, str) or "\0" in value:
        return False
    try:
        os.fsencode(value)
    except UnicodeEncodeError:
        return False
    return True


def _is_path(value: object) -> bool:
    return _is_text(value) and str(value).startswith("/")


def _is_environment(value: object) -> bool:
    return isinstance(value, dict) and all(
        _is_text(key) and key and "=" not in key and _is_text(text) for key, text in value.items()
    )


def _is_listen(value: object) -> bool:
    """Places by the names of variables."""
    return _is_environment(value) and isinstance(value, dict) and all(map(PLACE.fullmatch, value.values()))


def _is_list(value: object, check: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(check(one) for one in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _or_none(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or check(value)


CHECKS: dict[str, Callable[[object], bool]] = {
    "name": lambda value: isinstance(value, str) and _NAME.fullmatch(value) is not None,
    "argv": lambda value: _is_list(value, _is_text) and value != [] and value != [""],
    "env": _is_environment,
    "cwd": _or_none(_is_path),
    "user": _or_none(_is_text),
    "log": _or_none(_is_path),
    "cgroups": lambda value: _is_list(value, _is_path),
    "meta": lambda value: isinstance(value, dict),
    "restart": lambda value: isinstance(value, bool),
    "listen": _is_listen,
    "state": lambda value: value in list(State),
    **dict.fromkeys(("pid", "start_ticks", "exit_code", "signal", "signalled"), _or_none(_is_count)),
    **dict.fromkeys(("boot_id", "started_at", "exited_at", "error"), _or_none(_is_text)),
    **dict.fromkeys(("exit_unknown", "oom_hint"), lambda value: isinstance(value, bool)),
    **dict.fromkeys(("restarts", "oom_kills_before"), _is_count),
    "runs": lambda value: _is_list(value, lambda one: isinstance(one, dict)),
}
