"""An instant: what a fake's coroutine returns without anybody waiting; used by the simulation, which has no loop."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Raises what it raises, and AssertionError when it waits: no fake does."""
    try:
        coroutine.send(None)
    except StopIteration as ended:
        return ended.value
    raise AssertionError("a fake waited")
