"""Which runs ended with the machine; owned by the docker runtime, on an engine of this machine.

An engine that comes up and finds a container gone that it had left running knows nothing of its end: it says exit code
255, which a program may have chosen as well, and the present time. What has it when the first daemon of a boot looks
for the first time ended so. That is put on record, for the next daemon of the same boot."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from rota.adapters.durable import write_durably
from rota.adapters.runtime.docker.inspection import Inspection

UNKNOWN = 255

_log = logging.getLogger(__name__)


class LastBoot:
    """``has_ended`` is asked of everything that the first look finds, ``looked`` follows that look."""

    def __init__(self, path: Path, boot_id: str) -> None:
        self._path = path
        self._boot_id = boot_id
        self._looking, self._ended = _read(path, boot_id)

    def has_ended(self, seen: Inspection) -> bool:
        """Whether this run ended with the machine."""
        if self._looking and not seen.running and seen.exit_code == UNKNOWN:
            self._ended.add(seen.run)
        return seen.run in self._ended

    def looked(self) -> None:
        """What ends from now on ends in this boot."""
        self._looking = False
        try:
            write_durably(self._path, json.dumps({"boot_id": self._boot_id, "ended": sorted(self._ended)}))
        except OSError as error:
            _log.warning("%s cannot be written (%s); the next daemon looks again", self._path, error.strerror)


def _read(path: Path, boot_id: str) -> tuple[bool, set[str]]:
    """Whether this is the first daemon of its boot, and what an earlier one has found. Of a directory in which there
    has been none nothing can have ended."""
    try:
        kept = json.loads(path.read_bytes())
        return (True, set()) if kept["boot_id"] != boot_id else (False, set(map(str, kept["ended"])))
    except FileNotFoundError:
        return False, set()
    except (ValueError, TypeError, KeyError) as error:
        _log.warning("%s cannot be read (%s); exit code %d counts as the program's own", path, error, UNKNOWN)
        return False, set()
