"""Rota's own clock on a real machine: the wall clock once a boot, the time since boot from then on."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from pathlib import Path

from rota.adapters.durable import write_durably

_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_MOMENTS = 10_000


class SystemClock:
    """Fulfils the Clock port. The anchor (boot id and the wall clock's time of that boot) is a file of the data
    directory, so that a daemon that starts again goes on with the same clock. Raises OSError when it cannot be kept."""

    def __init__(self, data_dir: Path) -> None:
        self.boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._anchor = _kept_anchor(data_dir / "clock.json", self.boot_id)
        self._moments: dict[str, float] = {}

    def now(self) -> float:
        return self._anchor + time.clock_gettime(time.CLOCK_BOOTTIME)

    def at_ticks(self, start_ticks: int) -> float:
        """The moment a process of this boot was started, by its start ticks (proc(5), field 22 of stat)."""
        return self._anchor + start_ticks / _TICKS_A_SECOND

    def at_wall(self, text: str) -> float:
        """A recent moment that another process wrote down by the wall clock (RFC 3339), never later than now; the same
        at each asking, whatever the wall clock does meanwhile."""
        if text not in self._moments:
            if len(self._moments) >= _MOMENTS:
                self._moments.clear()
            now = self.now()
            self._moments[text] = min(now, now - (time.time() - datetime.fromisoformat(text).timestamp()))
        return self._moments[text]


def _kept_anchor(path: Path, boot_id: str) -> float:
    kept = _read(path)
    if kept is not None and kept[0] == boot_id:
        return kept[1]
    anchor = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, json.dumps({"boot_id": boot_id, "wall_at_boot": anchor}))
    return anchor


def _read(path: Path) -> tuple[str, float] | None:
    """What is kept, or None when nothing readable is: a new anchor is then as good as at a first start."""
    try:
        kept = json.loads(path.read_bytes())
        return str(kept["boot_id"]), float(kept["wall_at_boot"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
