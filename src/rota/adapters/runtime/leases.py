"""Which number belongs to which replica, durably; the process runtime leases ports, the docker runtime addresses."""

from __future__ import annotations

import json
import logging
import threading
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rota.adapters.durable import write_durably
from rota.core.errors import StartFailed
from rota.core.names import ReplicaId

_log = logging.getLogger(__name__)
REST = 60.0  # seconds a number is not leased again: an old HAProxy process or a client may still dial it (design.md)


@dataclass
class _Lease:
    replica: str
    until: float | None = None


class Leases:
    """Leases of one data directory; two data directories begin at different places of the range. ``what`` is leased,
    in the singular; ``free`` says whether a number can be had. May be asked from several threads."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], float],
        numbers: range,
        what: str,
        free: Callable[[int], bool] = lambda number: True,
    ) -> None:
        self._path = path
        self._now = now
        self._numbers = numbers
        self._what = what
        self._free = free
        self._leases = _read(path)
        self._lock = threading.Lock()
        self._next = zlib.crc32(str(path.absolute()).encode()) % len(numbers)

    def lease(self, holder: str) -> int:
        """The holder's own, a replica's or one of a replica's (``of``), the same at each asking until it is given back.
        Raises StartFailed when all are taken."""
        with self._lock:
            return self._lease(holder)

    def give_back(self, replica: ReplicaId) -> None:
        """Begins the rest of all its numbers; one that has none is no error."""
        with self._lock:
            held = [lease for lease in self._leases.values() if lease.until is None and _is_of(lease.replica, replica)]
            for lease in held:
                lease.until = self._now() + REST
            if held:
                self._write()

    def agree(self, running: Mapping[str, int]) -> None:
        """At the start: what runs holds its number, even if the file was lost; what was leased for a replica that never
        came to be (a crash between lease and start) is given back."""
        before = {number: replace(lease) for number, lease in self._leases.items()}
        for lease in self._leases.values():
            if lease.until is None and lease.replica not in running:
                lease.until = self._now() + REST
        self._leases.update({number: _Lease(replica) for replica, number in running.items()})
        if self._leases != before:
            self._write()

    def _lease(self, holder: str) -> int:
        held = self._held(holder)
        if held is not None:
            return held
        self._drop_rested()
        for step in range(len(self._numbers)):
            place = (self._next + step) % len(self._numbers)
            number = self._numbers[place]
            if number not in self._leases and self._free(number):
                self._next = place + 1
                self._grant(number, holder)
                return number
        first, last = self._numbers.start, self._numbers.stop - 1
        raise StartFailed(f"all {self._what}s from {first} to {last} are leased or in use on this machine")

    def _grant(self, number: int, holder: str) -> None:
        self._leases[number] = _Lease(holder)
        try:
            self._write()
        except StartFailed:
            del self._leases[number]  # a lease that is not durable is none
            raise

    def _held(self, holder: str) -> int | None:
        return next(
            (number for number, lease in self._leases.items() if lease.replica == holder and lease.until is None), None
        )

    def _drop_rested(self) -> None:
        now = self._now()
        self._leases = {number: one for number, one in self._leases.items() if one.until is None or one.until > now}

    def _write(self) -> None:
        content: dict[str, Any] = {str(number): vars(lease) for number, lease in self._leases.items()}
        try:
            # What was leased is to outlive the daemon; a machine that stops ends those who had the numbers as well.
            write_durably(self._path, json.dumps(content), sync=False)
        except OSError as error:
            raise StartFailed(f"the {self._what} cannot be put on record in {self._path}: {error.strerror}") from error


def of(replica: ReplicaId, what: int) -> str:
    """The holder of one more number of a replica's."""
    return f"{replica}:{what}"


def _is_of(holder: str, replica: ReplicaId) -> bool:
    return holder.partition(":")[0] == replica


def _read(path: Path) -> dict[int, _Lease]:
    try:
        return {int(number): _Lease(**lease) for number, lease in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read (%s); what runs says itself what it holds", path, error)
        return {}
