"""The files of control groups of either version: where a process's groups are, and what is read in them; shared by the
runtimes, the readings of use and the machine's size. Names and meaning: cgroups(7), the kernel's cgroup documents."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

MOUNT = Path("/sys/fs/cgroup")
MEMORY_LIMIT = ("memory.max", "memory.limit_in_bytes")  # v2's name, v1's
CPU_LIMIT = ("cpu.max", "cpu.cfs_quota_us")
PERIOD = 100_000  # microseconds; the kernel's default
_UNLIMITED_V1 = 2**62  # what v1 shows for "no limit" is the largest page below 2**63
_V1_CONTROLLERS = ("memory", "cpu", "cpuacct")

Number = TypeVar("Number", int, float)


def is_v2(mount: Path) -> bool:
    return (mount / "cgroup.controllers").exists()


def places(file: Path) -> dict[str, str]:
    """Where a process is, by controller; "" is v2's. ``file`` is its /proc/PID/cgroup; empty when it has ended."""
    found = {}
    with suppress(OSError):
        for line in file.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            found.update(dict.fromkeys(controllers.split(","), path))
    return found


def directories(file: Path, mount: Path = MOUNT, own: Path = Path("/proc/self/cgroup")) -> tuple[str, ...]:
    """The directories of a process's groups, one a controller in v1, one in v2. ``own`` is this process's: in a
    container the names may be the host's, while the mount shows only what is below the container's own group."""
    theirs, ours = places(file), places(own)
    tops = {"": mount} if is_v2(mount) else {one: mount / one for one in _V1_CONTROLLERS}
    found = []
    for controller, top in tops.items():
        inside, above = theirs.get(controller), ours.get(controller, "/").rstrip("/")
        if inside is not None:
            below = [inside] + ([inside.removeprefix(above)] if inside.startswith(f"{above}/") else [])
            found += [path for one in below if os.path.isdir(path := os.path.join(top, one.lstrip("/")))][:1]
    return tuple(dict.fromkeys(map(os.path.realpath, found)))


@functools.lru_cache(maxsize=16384)
def first_file(group: tuple[str, ...], *names: str) -> str | None:
    """The first of these files that the group has. Remembered: a group's files come and go with it, and its name is
    never used again; every look at all replicas asks for several of each."""
    paths = (os.path.join(directory, name) for directory in group for name in names)
    return next((path for path in paths if os.path.exists(path)), None)


def beside(file: str, name: str) -> str:
    return os.path.join(os.path.dirname(file), name)


def read(file: str) -> str | None:
    """What a file holds, None when it cannot be read."""
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    try:
        return os.read(descriptor, 16384).decode().strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def memory_limit(file: str) -> int | None:
    """Of a file that is one of MEMORY_LIMIT: bytes, None where there is no limit. Raises OSError when it is gone."""
    text = _there(file)
    return None if text == "max" or int(text) >= _UNLIMITED_V1 else int(text)


def cpu_limit(file: str) -> float | None:
    """Of a file that is one of CPU_LIMIT: cores, None where there is no limit. Raises OSError when it is gone."""
    quota, _, period = _there(file).partition(" ")
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period or read(beside(file, "cpu.cfs_period_us")) or PERIOD)


def members(directories: Sequence[str]) -> frozenset[int] | None:
    """The pids in a group and below; None where there is no group."""
    found: set[int] = set()
    seen = False
    for directory in directories:
        for procs in Path(directory).rglob("cgroup.procs"):
            with suppress(OSError):
                found.update(int(pid) for pid in procs.read_text().split())
                seen = True
    return frozenset(found) if seen else None


def limits_above(groups: Iterable[Path], mount: Path = MOUNT) -> tuple[list[int], list[float]]:
    """Every limit of memory (bytes) and CPU (cores) that these groups are under: their own, those of the groups above
    them, and those of the mount's top, which in a container is the container's own group."""
    places = _above(groups, mount)
    cpus = [_limit(cpu_limit, directory, name) for directory in places for name in CPU_LIMIT]
    return [*memory_limits(groups, mount).values()], [one for one in cpus if one is not None]


def memory_limits(groups: Iterable[Path], mount: Path = MOUNT) -> dict[str, int]:
    """The same limits of memory, by the directory of the group that has each."""
    found = {}
    for directory in _above(groups, mount):
        for name in MEMORY_LIMIT:
            limit = _limit(memory_limit, directory, name)
            if limit is not None:
                found[directory] = limit
    return found


def _above(groups: Iterable[Path], mount: Path) -> list[str]:
    """The directories of these groups, of those above them and of the mount's top."""
    tops = [mount] if is_v2(mount) else [mount / one for one in _V1_CONTROLLERS]
    lines = {above for group in groups for above in (group, *group.parents) if mount in above.parents}
    return sorted({*map(str, tops), *map(str, lines)})


def _limit(ask: Callable[[str], Number | None], directory: str, name: str) -> Number | None:
    with suppress(OSError):
        return ask(os.path.join(directory, name))
    return None


def _there(file: str) -> str:
    text = read(file)
    if text is None:
        raise FileNotFoundError(file)
    return text
