"""What containers use, read in their control groups' files by way of their main processes; asked by the docker runtime.

Never by the engine's own statistics, which take one to two seconds for each answer."""

from __future__ import annotations

from collections.abc import Mapping

from rota.adapters.cgroupfiles import directories, members
from rota.adapters.clock import SystemClock
from rota.adapters.runtime.docker.inspection import Inspection
from rota.adapters.runtime.docker.processes import groups_of
from rota.adapters.usage import used, waited_of
from rota.core.names import ReplicaId
from rota.ports.usage import Reading


def readings(seen: Mapping[ReplicaId, Inspection], clock: SystemClock) -> dict[ReplicaId, Reading]:
    found = {}
    for replica, container in seen.items():
        file = groups_of(container)
        group = directories(file) if file is not None else ()
        reading = used(group, tuple) if group else None
        if reading is not None:
            found[replica] = Reading(clock.now(), reading.memory, reading.cpu_seconds)
    return found


def waited(container: Inspection) -> float | None:
    file = groups_of(container)
    return waited_of(members(directories(file)) or ()) if file is not None else None
