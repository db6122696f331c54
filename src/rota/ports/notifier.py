"""Tells people what happened, at addresses that are URLs; called by engine.delivery, one letter at a time."""

from __future__ import annotations

from typing import Protocol


class Notifier(Protocol):
    async def check(self, url: str) -> None:
        """Raises UsageError, without what may be secret in it, unless notices can be sent to such an address."""
        ...

    async def send(self, url: str, title: str, body: str) -> None:
        """Returns once the other side has taken it. Raises StepFailed with the reason, free of secrets."""
        ...
