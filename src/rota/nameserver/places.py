"""The places for TCP connections: how many there may be at once, and of whom; asked by the front for each one.

A place costs a client nothing to keep, so strangers have few, one of their networks fewer, and rota's own networks have
theirs whatever strangers do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from .allowance import Allowance, network_of

KNOWN = 128  # for clients in rota's own networks
KNOWN_EACH = 64  # for one address of them: a client that leaks must not lock the others out
STRANGERS = 32
STRANGERS_EACH = 4  # for one unknown network (/24, /56)


class Places:
    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, host: str) -> Iterator[bool]:
        """Whether there is one, for as long as the connection lasts."""
        known = self._allowance.is_known(host)
        names = ("known", host) if known else ("strangers", network_of(host))
        limits = (KNOWN, KNOWN_EACH) if known else (STRANGERS, STRANGERS_EACH)
        if any(self._taken[name] >= most for name, most in zip(names, limits, strict=True)):
            yield False
            return
        self._taken.update(names)
        try:
            yield True
        finally:
            self._taken.subtract(names)
            self._taken += Counter()  # forgets those that have none: forged addresses cannot make it grow
