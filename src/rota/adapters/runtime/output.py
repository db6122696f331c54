"""The end of what a command writes, in bounded memory; shared by the runtimes' exec."""

from __future__ import annotations

from rota.ports.exec import Ran


class Output:
    def __init__(self, most: int) -> None:
        self.total = 0
        self._most = most
        self._kept = bytearray()

    def add(self, piece: bytes) -> None:
        self.total += len(piece)
        self._kept += piece[-self._most :]
        del self._kept[: -self._most]

    def ran(self, code: int | None) -> Ran:
        return Ran(code, self._kept.decode(errors="replace"), self.total > self._most)
