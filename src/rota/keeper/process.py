"""One process as the kernel tells it: its identity, and a pidfd that cannot hit another; for the tree."""

import os
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A line of /proc/PID/stat; `start_ticks` is its field 22, clock ticks since boot (proc(5))."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int


def boot_id() -> str:
    """Name of this boot; with a pid and its start ticks it names one process for ever."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def look(pid: int) -> Process | None:
    """The process (a zombie too), or None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name may hold blanks and brackets: fields are counted from the last bracket.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(pid, int(fields[1]), int(fields[2]), int(fields[3]), int(fields[19]))


def everyone() -> Iterator[Process]:
    """All processes of this moment."""
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (process := look(int(entry))) is not None:
            yield process


def environment(pid: int) -> frozenset[bytes]:
    """The `KEY=value` entries the process was started with; empty when gone, a zombie or another user's."""
    try:
        return frozenset(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return frozenset()


def hold(pid: int, start_ticks: int) -> int | None:
    """A pidfd of the living process with this identity, for the caller to close; None when it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    # Looked at after the pidfd is held: a number given to another process in between shows here.
    process = look(pid)
    if process is None or process.start_ticks != start_ticks or ended(pidfd):
        os.close(pidfd)
        return None
    return pidfd


def ended(pidfd: int) -> bool:
    """Whether the process has ended, reaped or not; exact where the state letter is not."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def close(pidfds: list[int]) -> None:
    """Let go of the processes."""
    for pidfd in pidfds:
        with suppress(OSError):
            os.close(pidfd)
