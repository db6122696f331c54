"""The living processes of a replica, from its control group or by descent; asked when a listener's owner matters, and
for what a tree uses where no group counts it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rota.adapters.cgroupfiles import members

Processes = Mapping[int, tuple[int, int]]
"""The parent and the session of every process."""


def processes() -> Processes:
    """Of this machine at this moment; takes about 0.1 ms a process."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # The process may end while it is looked at.
            with suppress(OSError):
                stat = Path("/proc", entry, "stat").read_bytes()
                fields = stat[stat.rindex(b")") + 2 :].split()
                found[int(entry)] = (int(fields[1]), int(fields[3]))
    return found


def tree_of(pid: int, cgroups: Sequence[str], look: Callable[[], Processes] = processes) -> frozenset[int]:
    """All pids of the tree whose main process is ``pid``. Without a control group: its session, and who descends;
    ``look`` is asked then, so that several trees can share one look at all processes."""
    contained = members(cgroups)
    return contained if contained is not None else _descent(pid, look())


def _descent(main: int, all_there: Processes) -> frozenset[int]:
    tree = {main} | {pid for pid, (_, session) in all_there.items() if session == main}
    fresh = tree
    while fresh:
        fresh = {pid for pid, (parent, _) in all_there.items() if parent in fresh} - tree
        tree = tree | fresh
    return frozenset(tree)
