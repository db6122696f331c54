"""The machine that replicas run on: asked how large it is, and what is left, before an order is begun (H9)."""

from __future__ import annotations

from typing import Protocol

from rota.core.capacity import Amount


class Machine(Protocol):
    async def size(self) -> Amount:
        """All the memory and cores that replicas, rota and the system share there. Raises StepFailed while it cannot
        be asked."""
        ...

    async def available(self) -> int | None:
        """Bytes of that memory that nobody uses now, file cache that the kernel would drop included; None where nobody
        can tell, as of another machine. Raises StepFailed while it cannot be asked."""
        ...
