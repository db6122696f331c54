"""The process tree of one child: who belongs to it, signals to it, memory run out; asked by the children."""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .process import Process, close, ended, environment, everyone, hold, look
from .record import Record


def marks(keeper_id: str, name: str) -> dict[str, str]:
    """The environment that every process of a child inherits and by which strays are found."""
    return {"ROTA_KEEPER": keeper_id, "ROTA_CHILD": name}


def hold_members(record: Record, keeper_id: str, *, session_is_ours: bool = True) -> list[int]:
    """Pidfds of the living processes of the tree, for the caller to close; the main one is among them.

    A cgroup contains the whole tree. Without one: session, process group, inherited marks, and descendants of
    these; a process that cleared its environment, left the session and lost its parent is not found.
    `session_is_ours` is False when the main process ended so long ago that its number may be another's.
    """
    pids = _in_cgroups(record.cgroups)
    if pids is not None:
        found = ((pid, _ticks_of(pid)) for pid in pids)
        return _hold_all((pid, ticks) for pid, ticks in found if ticks is not None)
    everybody = {process.pid: process for process in everyone()}
    main = everybody.get(record.pid) if record.pid is not None else None
    recycled = main is not None and main.start_ticks != record.start_ticks
    session = record.pid if session_is_ours and not recycled else None
    members = _matching(everybody, keeper_id, record.name, session)
    return _hold_all((process.pid, process.start_ticks) for process in members)


def find_main(name: str, keeper_id: str) -> Process | None:
    """The process started for `name` with its pid not yet recorded: the oldest marked session leader."""
    wanted = _wanted(keeper_id, name)
    leaders = [one for one in everyone() if one.session == one.pid and wanted <= environment(one.pid)]
    return min(leaders, key=lambda one: one.start_ticks, default=None)


def send(pidfds: Iterable[int], signum: int) -> int:
    """Signal them; returns how many were still there. PermissionError: one may not be signalled."""
    count = 0
    for pidfd in pidfds:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signum)
            count += 1
    return count


def kill(record: Record, keeper_id: str, *, session_is_ours: bool) -> list[int]:
    """SIGKILL all that lives of the tree; returns the pidfds of the dying, for the caller to close."""
    for directory in record.cgroups:
        _kill_cgroup(Path(directory))
    pidfds = hold_members(record, keeper_id, session_is_ours=session_is_ours)
    try:
        send(pidfds, signal.SIGKILL)
    except PermissionError:
        close(pidfds)
        return []
    return pidfds


def out_of_memory_kills(cgroups: list[str]) -> int:
    """Kills for want of memory in these cgroups so far (v2 memory.events, v1 memory.oom_control)."""
    return max((_oom_kills(Path(one, file)) for one in cgroups for file in _OOM_FILES), default=0)


_OOM_FILES = ("memory.events", "memory.oom_control")


def _oom_kills(file: Path) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)


def _wanted(keeper_id: str, name: str) -> set[bytes]:
    return {f"{key}={value}".encode() for key, value in marks(keeper_id, name).items()}


def _matching(everybody: dict[int, Process], keeper_id: str, name: str, session: int | None) -> Iterable[Process]:
    wanted = _wanted(keeper_id, name)
    members = {
        one.pid
        for one in everybody.values()
        if (session is not None and session in (one.session, one.group)) or wanted <= environment(one.pid)
    }
    fresh = members
    while fresh:
        fresh = {one.pid for one in everybody.values() if one.parent in fresh} - members
        members = members | fresh
    return [everybody[pid] for pid in members - {os.getpid()}]


def _in_cgroups(directories: list[str]) -> set[int] | None:
    """Pids in the cgroups and below, or None where there is no cgroup that is the child's alone."""
    pids: set[int] = set()
    readable = False
    for directory in directories:
        members = _members_below(Path(directory))
        # Never trust a path so far that the keeper ends itself and all around it.
        if members is not None and os.getpid() not in members:
            readable = True
            pids |= members
    return pids if readable else None


def _members_below(directory: Path) -> set[int] | None:
    members: set[int] = set()
    for parent, _, files in os.walk(directory):
        if "cgroup.procs" in files:
            with suppress(OSError):
                members |= {int(pid) for pid in Path(parent, "cgroup.procs").read_text().split()}
    return members if (directory / "cgroup.procs").exists() else None


def _kill_cgroup(directory: Path) -> None:
    """Leave no gap to a forking tree where the kernel can (v2, Linux 5.14); else the sweep comes again."""
    members = _members_below(directory)
    if members and os.getpid() not in members:
        with suppress(OSError), open(directory / "cgroup.kill", "r+") as file:
            file.write("1")


def _ticks_of(pid: int) -> int | None:
    process = look(pid)
    return process.start_ticks if process else None


def _hold_all(identities: Iterable[tuple[int, int]]) -> list[int]:
    held = (hold(pid, ticks) for pid, ticks in identities)
    return [pidfd for pidfd in held if pidfd is not None and not ended(pidfd)]
