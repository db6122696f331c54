"""A machine of any size, for tests; fulfils the Machine port."""

from __future__ import annotations

from rota.core.capacity import Amount

LARGE = Amount(2**50, 100_000.0)
"""Whatever fits."""


class FakeMachine:
    def __init__(self, size: Amount = LARGE) -> None:
        self.amount = size

    async def size(self) -> Amount:
        return self.amount
