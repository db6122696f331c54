"""This machine's size, and what is left of its memory, as /proc, the control groups and the scheduler tell it; asked by
the runtimes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rota.adapters.cgroupfiles import MOUNT, limits_above, memory_limits
from rota.adapters.usage import memory_of
from rota.core.capacity import Amount


class LocalMachine:
    """``groups`` are the control groups that replicas are made in: what limits those limits all replicas together,
    as does a container that all of this runs in."""

    def __init__(
        self,
        groups: Sequence[Path] = (),
        *,
        mount: Path = MOUNT,
        meminfo: Path = Path("/proc/meminfo"),
    ) -> None:
        self._groups = groups
        self._mount = mount
        self._meminfo = meminfo

    def size(self) -> Amount:
        memory, cpus = limits_above(self._groups, self._mount)
        return Amount(min([self.memory, *memory]), min([float(len(os.sched_getaffinity(0))), *cpus]))

    @property
    def memory(self) -> int:
        """All that the kernel has, whatever of it may be used here."""
        return self._entry("MemTotal")

    def available(self) -> int:
        """Bytes that can still be had: of the kernel, and under each limit that replicas are under. File cache that is
        dropped when memory is short counts as not used, in both."""
        below = [
            limit - (memory_of((directory,)) or 0)
            for directory, limit in memory_limits(self._groups, self._mount).items()
        ]
        return max(0, min([self._entry("MemAvailable"), *below]))

    def _entry(self, wanted: str) -> int:
        """proc(5): ``MemTotal:  24684092 kB``, and kB are KiB there."""
        for line in self._meminfo.read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == wanted:
                return int(rest.split()[0]) * 1024
        raise ValueError(f"{self._meminfo} does not say {wanted}")
