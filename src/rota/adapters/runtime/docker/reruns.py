"""What became of containers that were started again in place: labels cannot change, so it is kept beside them; owned by
the docker runtime.

Each entry names the run that it follows: written before the start, it holds from the moment the engine shows another
run, and a start that never came changes nothing. Lost, the file costs a needless restart, no more."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path

from rota.adapters.durable import write_durably
from rota.adapters.inturn import InTurn
from rota.core.errors import StartFailed

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Standing:
    """A run's generation, and how often its container had been started again by then."""

    generation: int
    restarts: int


@dataclass(frozen=True)
class _Rerun:
    after: str
    generation: int
    restarts: int
    generation_before: int
    restarts_before: int


class Reruns:
    """``turn`` is the thread that alone writes them; a change is seen once it is durable."""

    def __init__(self, path: Path, turn: InTurn) -> None:
        self._path = path
        self._turn = turn
        self._known: Mapping[str, _Rerun] = _read(path)

    def standing(self, container: str, started: str, first: int) -> Standing:
        """Of a container's present run; ``first`` is the generation in its labels."""
        known = self._known.get(container)
        if known is None:
            return Standing(first, 0)
        if known.after == started:
            return Standing(known.generation_before, known.restarts_before)
        return Standing(known.generation, known.restarts)

    async def begin(self, container: str, ended: str, standing: Standing, generation: int) -> None:
        """The next run, after the one that was ``started`` at ``ended``, will be of this generation. Raises
        StartFailed when that cannot be written."""
        rerun = _Rerun(ended, generation, standing.restarts + 1, standing.generation, standing.restarts)
        await self._turn.do(lambda: self._write({**self._known, container: rerun}))

    def keep(self, containers: Set[str]) -> None:
        """Forgets all others, soon; one that stays is forgotten the next time."""
        self._turn.begin(lambda: self._keep(containers))

    def _keep(self, containers: Set[str]) -> None:
        try:
            if self._known.keys() - containers:
                self._write({name: rerun for name, rerun in self._known.items() if name in containers})
        except StartFailed as failure:
            _log.warning("what is gone stays on record: %s", failure)

    def _write(self, known: Mapping[str, _Rerun]) -> None:
        try:
            write_durably(self._path, json.dumps({name: asdict(rerun) for name, rerun in known.items()}))
        except OSError as error:
            raise StartFailed(f"the restart cannot be put on record in {self._path}: {error.strerror}") from error
        self._known = known


def _read(path: Path) -> dict[str, _Rerun]:
    try:
        return {name: _Rerun(**rerun) for name, rerun in json.loads(path.read_bytes()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read (%s); replicas restarted in place count as new", path, error)
        return {}
