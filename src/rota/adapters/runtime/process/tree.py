"""The living processes of a replica, from its control group or by descent; asked when a listener's owner matters."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from rota.adapters.runtime.process.cgroups import members


def tree_of(pid: int, cgroups: Sequence[str]) -> frozenset[int]:
    """All pids of the tree whose main process is ``pid``. Without a control group: its session, and who descends."""
    contained = members(cgroups)
    return contained if contained is not None else _descent(pid)


def _descent(main: int) -> frozenset[int]:
    parents: dict[int, int] = {}
    tree = {main}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            # The process may end while it is looked at.
            with suppress(OSError):
                stat = Path("/proc", entry, "stat").read_bytes()
                fields = stat[stat.rindex(b")") + 2 :].split()
                parents[int(entry)] = int(fields[1])
                if int(fields[3]) == main:
                    tree.add(int(entry))
    fresh = tree
    while fresh:
        fresh = {pid for pid, parent in parents.items() if parent in fresh} - tree
        tree = tree | fresh
    return frozenset(tree)
