"""What containers use, read in their control groups' files by way of their main processes; asked by the docker runtime.

Never by the engine's own statistics, which take one to two seconds for each answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rota.adapters.cgroupfiles import directories
from rota.adapters.clock import SystemClock
from rota.adapters.runtime.docker.inspection import Inspection
from rota.adapters.usage import used
from rota.core.names import ReplicaId
from rota.ports.usage import Reading


def readings(seen: Mapping[ReplicaId, Inspection], clock: SystemClock) -> dict[ReplicaId, Reading]:
    found = {}
    for replica, container in seen.items():
        group = _group(container)
        reading = used(group, tuple) if group else None
        if reading is not None:
            found[replica] = Reading(clock.now(), reading.memory, reading.cpu_seconds)
    return found


def _group(container: Inspection) -> tuple[str, ...]:
    """Empty when it does not run, and when its pid is not one of ours: a daemon in a container of its own sees other
    processes under the numbers that the engine says. A container's group is named after it, whatever makes it."""
    if not container.running:
        return ()
    file = Path(f"/proc/{container.pid}/cgroup")
    try:
        if container.id not in file.read_text():
            return ()
    except OSError:
        return ()
    return directories(file)
