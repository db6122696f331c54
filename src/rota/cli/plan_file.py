"""A plan in a file: written by ``rota plan -o``, read again by the command that is to carry it out."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rota.core.errors import UsageError

_MOST_BYTES = 8 * 2**20  # what the server reads of a body


def save(path: Path, plan: dict[str, Any]) -> None:
    """Readable by its owner alone: it names what runs. Raises UsageError."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(json.dumps(plan, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def attached(path: Path | None, order: dict[str, Any]) -> dict[str, Any]:
    """The order with the plan that it is to follow; policy flags that it does not give are the plan's. Raises
    UsageError for a file that holds no plan."""
    if path is None:
        return order
    plan = _read(path)
    try:
        steps = [str(step["words"]) for step in plan["steps"]]
        saved = {"basis": plan["basis"], "steps": steps, "durations": plan["durations"]}
        policy = plan["order"].get("policy", {}) | order.get("policy", {})
    except (KeyError, TypeError, AttributeError):
        raise UsageError(f"{path} holds no plan; make one with: rota plan -o {path}") from None
    return order | {"plan": saved} | ({"policy": policy} if "policy" in order else {})


def _read(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_MOST_BYTES))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise UsageError(f"{path} holds no plan; make one with: rota plan -o {path}") from None
