"""A container's main process on this machine, if it is on this machine; for what is read or watched past the engine."""

from __future__ import annotations

from pathlib import Path

from rota.adapters.runtime.docker.inspection import Inspection


def groups_of(container: Inspection) -> Path | None:
    """The file that lists the process's control groups. None when it does not run, and when its pid is not one of ours:
    a daemon in a container of its own sees other processes under the numbers that the engine says. A container's group
    is named after it, whatever makes it."""
    if not container.running:
        return None
    file = Path(f"/proc/{container.pid}/cgroup")
    try:
        return file if container.id in file.read_text() else None
    except OSError:
        return None
