"""Control groups that contain a replica's whole tree and limit it, v1 or v2, where they are writable; asked by the
process runtime. Files and their meaning: cgroups(7), the kernel's cgroup-v1 and cgroup-v2 documents."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rota.adapters.cgroupfiles import (
    CPU_LIMIT,
    MEMORY_LIMIT,
    PERIOD,
    beside,
    cpu_limit,
    first_file,
    is_v2,
    memory_limit,
    places,
    read,
)
from rota.core.errors import LimitsRefused
from rota.core.spec import Limits

_PAGE = 4096
_LEAST_QUOTA = 1_000  # microseconds; the kernel takes no less
_LET_GO = 2.0  # seconds for the last of a tree to be reaped
_LOOK_AGAIN = 0.02
_CONTROLLERS = ("memory", "cpu", "pids")
_V1_CONTROLLERS = (*_CONTROLLERS, "cpuacct")  # counts what is used; v2's cpu does both


@dataclass(frozen=True)
class Cgroups:
    """Groups of one data directory: ``<root>/<name of the directory>/<replica>`` below each of ``roots``, one a
    controller in v1, a single one in v2, none where nothing is writable."""

    roots: tuple[Path, ...]

    def create(self, name: str) -> tuple[str, ...]:
        """The directories of a group, made if they are not there; empty where the machine gives none."""
        made = []
        for root in self.roots:
            with suppress(OSError):
                root.mkdir(exist_ok=True)
                _hand_down(root)
                (root / name).mkdir(exist_ok=True)
                made.append(str(root / name))
        return tuple(made)

    async def remove(self, directories: Sequence[str]) -> bool:
        """Takes an ended tree's group away, with those that it made below; False when something still is in there."""
        deadline = asyncio.get_running_loop().time() + _LET_GO
        while not all(_removed(Path(one)) for one in directories):
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(_LOOK_AGAIN)
        for one in directories:
            with suppress(OSError):
                Path(one).parent.rmdir()  # the data directory's own, once it is empty
        return True


def find(mount: Path, own: Path, name: str) -> Cgroups:
    """The groups that can be made here: at the top of each hierarchy under ``mount`` (usually /sys/fs/cgroup), else
    where ``own`` (/proc/self/cgroup) says that we are. Makes nothing that stays."""
    inside = places(own)
    hierarchies: dict[Path, str] = {}
    for controller in [""] if is_v2(mount) else _V1_CONTROLLERS:
        if (mount / controller).is_dir():
            hierarchies.setdefault((mount / controller).resolve(), inside.get(controller, "/"))
    found = []
    for top, place in hierarchies.items():
        for parent in (top, top / place.lstrip("/")):
            if _writable(parent / name):
                found.append(parent / name)
                break
    return Cgroups(tuple(found))


def apply(directories: Sequence[str], limits: Limits) -> bool:
    """Sets the limits, live; True when all that is asked for is enforced now. Raises LimitsRefused when the tree uses
    more memory than that, or the kernel refuses."""
    try:
        _set_memory(tuple(directories), limits.memory)
        _set_cpus(tuple(directories), limits.cpus)
    except OSError as error:
        raise LimitsRefused(f"the limit of {limits.written()} cannot be set: {error.strerror}") from error
    return enforced(directories, limits)


def enforced(directories: Sequence[str], limits: Limits) -> bool:
    """Whether these limits are watched over by the kernel here."""
    group = tuple(directories)
    return (limits.memory is None or first_file(group, *MEMORY_LIMIT) is not None) and (
        limits.cpus is None or first_file(group, *CPU_LIMIT) is not None
    )


def limits_in_force(directories: Sequence[str], recorded: Limits) -> Limits:
    """What the kernel holds the tree to. The recorded value is given where the kernel rounded it, or has none."""
    memory = _memory_in_force(tuple(directories), recorded.memory)
    cpus = _cpus_in_force(tuple(directories), recorded.cpus)
    if (memory, cpus) == (recorded.memory, recorded.cpus):
        return recorded
    # Not validated: what somebody else has set may be less than a file may ask for.
    return Limits.model_construct(memory=memory, cpus=cpus)


def _set_memory(group: tuple[str, ...], memory: int | None) -> None:
    file = first_file(group, *MEMORY_LIMIT)
    if file is None:
        return
    v2 = file.endswith(MEMORY_LIMIT[0])
    used = int(read(beside(file, "memory.current" if v2 else "memory.usage_in_bytes")) or 0)
    # v2 would kill at once where v1 says no, after having tried to reclaim.
    if v2 and memory is not None and used > memory:
        raise _in_use(memory, used)
    try:
        _write(file, ("max" if v2 else "-1") if memory is None else str(memory))
    except OSError as error:
        if error.errno == errno.EBUSY and memory is not None:
            raise _in_use(memory, used) from error
        raise


def _in_use(memory: int, used: int) -> LimitsRefused:
    return LimitsRefused(
        f"it uses {used / 2**20:.0f} MiB of memory and cannot be limited to {memory / 2**20:g} MiB while it runs"
    )


def _set_cpus(group: tuple[str, ...], cpus: float | None) -> None:
    file = first_file(group, *CPU_LIMIT)
    if file is None:
        return
    if file.endswith(CPU_LIMIT[0]):
        _write(file, f"{'max' if cpus is None else _quota(cpus)} {PERIOD}")
        return
    if cpus is not None:
        _write(beside(file, "cpu.cfs_period_us"), str(PERIOD))
    _write(file, "-1" if cpus is None else str(_quota(cpus)))


def _memory_in_force(group: tuple[str, ...], recorded: int | None) -> int | None:
    file = first_file(group, *MEMORY_LIMIT)
    if file is None:
        return recorded
    try:
        value = memory_limit(file)
    except OSError:
        return recorded
    rounded = None if recorded is None else recorded // _PAGE * _PAGE
    return recorded if value == rounded else value


def _cpus_in_force(group: tuple[str, ...], recorded: float | None) -> float | None:
    file = first_file(group, *CPU_LIMIT)
    if file is None:
        return recorded
    try:
        value = cpu_limit(file)
    except OSError:
        return recorded
    same = value is not None and recorded is not None and abs(value - _quota(recorded) / PERIOD) < 1e-9
    return recorded if same else value


def _quota(cpus: float) -> int:
    return max(_LEAST_QUOTA, round(cpus * PERIOD))


def _write(file: str, text: str) -> None:
    with open(file, "r+") as stream:
        stream.write(text)


def _hand_down(root: Path) -> None:
    """v2: a group has only the controllers that those above pass on."""
    for parent in (root.parent, root):
        control = str(parent / "cgroup.subtree_control")
        passed_on = (read(control) or "").split()
        for controller in _CONTROLLERS:
            if controller not in passed_on:
                with suppress(OSError):
                    _write(control, f"+{controller}")


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(exist_ok=True)
        (directory / "probe").mkdir(exist_ok=True)
        (directory / "probe").rmdir()
    except OSError:
        return False
    with suppress(OSError):
        directory.rmdir()  # stays when replicas are in it
    return True


def _removed(directory: Path) -> bool:
    """Deepest first; the files in it are the kernel's and go with it."""
    try:
        for below in [one for one in directory.iterdir() if one.is_dir()]:
            if not _removed(below):
                return False
        directory.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
