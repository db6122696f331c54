"""Tells people what happened, at addresses that are URLs; called by engine.delivery, some letters at a time."""

from __future__ import annotations

from typing import Protocol


class Notifier(Protocol):
    async def check(self, *urls: str) -> None:
        """Raises UsageError, without what may be secret in it, unless notices can be sent to such addresses."""
        ...

    async def send(self, url: str, title: str, body: str, name: str) -> None:
        """Returns once the other side has taken it. ``name`` is the same at each try of one letter, and goes along
        where there is a place for it. Raises StepFailed with the reason, free of secrets; cancelled, or after that,
        nothing is sent any more."""
        ...
