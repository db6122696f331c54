"""What a tree of processes uses, read in the files of its control groups (v1 and v2) or, where those do not tell, in
/proc; used by every runtime whose replicas run on this machine.

A runtime never asks its engine for statistics: a Docker engine takes one to two seconds for each answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rota.adapters.cgroupfiles import beside, first_file, read

_MEMORY = ("memory.current", "memory.usage_in_bytes")  # v2's name, v1's
_CACHE = {"memory.current": "inactive_file", "memory.usage_in_bytes": "total_inactive_file"}
_CPU = ("cpuacct.usage", "cpu.stat")
_TICKS_A_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Used:
    """``memory`` in bytes; ``cpu_seconds`` of the whole tree since it began."""

    memory: int
    cpu_seconds: float


def used(group: Sequence[str], tree: Callable[[], Iterable[int]]) -> Used | None:
    """By the tree's control groups. ``tree`` gives its pids and is only asked for what they do not tell; None when
    nothing of it is there any more."""
    directories = tuple(group)
    memory, cpu_seconds = memory_of(directories), cpu_seconds_of(directories)
    if memory is not None and cpu_seconds is not None:
        return Used(memory, cpu_seconds)
    counted = of_processes(tree())
    if counted is None:
        return None
    return Used(
        counted.memory if memory is None else memory, counted.cpu_seconds if cpu_seconds is None else cpu_seconds
    )


def memory_of(group: tuple[str, ...]) -> int | None:
    """Bytes in use, without the file cache that the kernel drops first when memory is short."""
    file = first_file(group, *_MEMORY)
    text = read(file) if file is not None else None
    if file is None or text is None:
        return None
    cache = _entry(read(beside(file, "memory.stat")) or "", _CACHE[os.path.basename(file)])
    return max(0, int(text) - (cache or 0))


def cpu_seconds_of(group: tuple[str, ...]) -> float | None:
    """Used by all that was ever in the group. v1 has a cpu.stat too, which only tells of throttling."""
    for name in _CPU:
        file = first_file(group, name)
        text = read(file) if file is not None else None
        if text is not None:
            if name == "cpuacct.usage":
                return int(text) / 1e9
            microseconds = _entry(text, "usage_usec")
            if microseconds is not None:
                return microseconds / 1e6
    return None


def of_processes(pids: Iterable[int]) -> Used | None:
    """Added up over processes: resident memory (pages that several share count for each), CPU time with that of the
    children they have waited for. None when none of them is there."""
    found = [one for one in map(_of_process, pids) if one is not None]
    if not found:
        return None
    return Used(sum(one.memory for one in found), sum(one.cpu_seconds for one in found))


def waited_of(pids: Iterable[int]) -> float | None:
    """Seconds that the processes' thread with the longest wait was ready and had no core; None where none is there, or
    the kernel does not count it. The second field of schedstat (sched-stats.rst) is in nanoseconds."""
    texts = [read(f"/proc/{pid}/task/{thread}/schedstat") for pid in pids for thread in _threads(pid)]
    return max((int(text.split()[1]) / 1e9 for text in texts if text), default=None)


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended
        return []


def _of_process(pid: int) -> Used | None:
    """proc(5), stat: fields 14 to 17 are utime, stime, cutime and cstime, field 24 is rss in pages."""
    text = read(f"/proc/{pid}/stat")
    if text is None:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return Used(int(fields[21]) * _PAGE, sum(map(int, fields[11:15])) / _TICKS_A_SECOND)


def _entry(text: str, name: str) -> int | None:
    """A line ``name number``."""
    start = text.find(f"\n{name} ")
    if start < 0:
        if not text.startswith(f"{name} "):
            return None
        start = -1
    return int(text[start + len(name) + 2 :].split(None, 1)[0])
