"""This machine's size, as /proc, the control groups and the scheduler tell it; asked by the process runtime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rota.adapters.cgroupfiles import MOUNT, limits_above
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
        return Amount(min([_total(self._meminfo), *memory]), min([float(len(os.sched_getaffinity(0))), *cpus]))


def _total(meminfo: Path) -> int:
    """proc(5): ``MemTotal:  24684092 kB``, and kB are KiB there."""
    for line in meminfo.read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "MemTotal":
            return int(rest.split()[0]) * 1024
    raise ValueError(f"{meminfo} does not say how much memory there is")
