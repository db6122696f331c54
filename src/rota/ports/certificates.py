"""The certificates that something here depends on; asked by engine.certificatewatch and the engine's diagnosis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from rota.core.expiry import Certificate


class Certificates(Protocol):
    async def certificates(self) -> Sequence[Certificate]:
        """Each as it is now; one that cannot be read or asked for is left out."""
        ...
