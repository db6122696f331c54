"""The composition root of the host's examination: for the daemon, and for ``rota doctor`` where no server answers."""

from __future__ import annotations

from pathlib import Path

from rota.adapters import host
from rota.adapters.balancer.haproxy import binary
from rota.adapters.runtime.process import cgroups
from rota.adapters.runtime.process.layout import account
from rota.core.diagnosis import Finding

PORTS = range(20000, 30000)  # rota serve's own default
CGROUPS, OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def examine(
    data_dir: Path,
    ports: range = PORTS,
    process_user: str | None = None,
    contains: bool | None = None,
    containers: bool = False,
    docker: bool = False,
) -> tuple[Finding, ...]:
    """What there is to say of this host. ``contains``: whether cgroups are writable, where that is known already;
    ``containers``: replicas are some, ``docker``: of the engine here."""
    if contains is None:
        contains = bool(cgroups.find(CGROUPS, OWN, "rota-doctor").roots)
    found = host.examine(data_dir, ports, lambda: binary.find().path, contains, docker)
    return found if containers else (*found, *host.isolation(account(process_user) is not None))
