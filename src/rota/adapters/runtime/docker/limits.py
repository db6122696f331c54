"""Limits in the words of an engine's HostConfig, and back; pure.

CPUs are a quota, not NanoCpus: the latter cannot be taken back from a running container, and is refused beyond the
machine's own number. Memory cannot be taken back either ("minimum 6MB" for 0 and -1): the kernel's own figure for "no
limit" is set instead (measured on 20.10, decision 17)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rota.core.spec import Limits

_PERIOD = 100_000  # microseconds, the kernel's default
_LEAST_QUOTA = 1_000  # microseconds; the kernel takes no less
_NO_QUOTA = -1
_NO_MEMORY_LIMIT = 2**63 - 4096  # the largest page below 2**63, as cgroup v1 shows it
_UNLIMITED = 2**62


def at_creation(limits: Limits) -> dict[str, int]:
    """Without swap: what a limit keeps an app from must not move to the disk."""
    asked: dict[str, int] = {}
    if limits.memory is not None:
        asked |= {"Memory": limits.memory, "MemorySwap": limits.memory}
    if limits.cpus is not None:
        asked |= {"CpuPeriod": _PERIOD, "CpuQuota": _quota(limits.cpus)}
    return asked


def changed(limits: Limits, host_config: Mapping[str, Any], processors: int) -> dict[str, int]:
    """The request that changes a container's limits, live. Where somebody has set NanoCpus by hand the engine accepts
    no quota any more, and all of the machine's processors are as good as no limit."""
    asked: dict[str, int] = {}
    memory = limits.memory if limits.memory is not None else _NO_MEMORY_LIMIT
    if limits.memory is not None or host_config.get("Memory"):
        asked |= {"Memory": memory, "MemorySwap": memory}
    if host_config.get("NanoCpus"):
        asked["NanoCpus"] = round((limits.cpus or processors) * 1e9)
    elif limits.cpus is not None:
        asked |= {"CpuPeriod": _PERIOD, "CpuQuota": _quota(limits.cpus)}
    elif host_config.get("CpuQuota"):
        asked["CpuQuota"] = _NO_QUOTA
    return asked


def in_force(host_config: Mapping[str, Any], asked: Limits) -> Limits:
    """What the engine enforces; ``asked`` itself where that is what it comes to, so that no rounding is a change."""
    memory = _memory(host_config.get("Memory") or 0)
    cpus = _cpus(host_config)
    same_cpus = asked.cpus is not None and cpus is not None and _quota(asked.cpus) == _quota(cpus)
    return Limits.model_construct(memory=memory, cpus=asked.cpus if same_cpus else cpus)


def _memory(value: int) -> int | None:
    return value if 0 < value < _UNLIMITED else None


def _cpus(host_config: Mapping[str, Any]) -> float | None:
    nano, quota = host_config.get("NanoCpus") or 0, host_config.get("CpuQuota") or 0
    if quota > 0:
        return float(quota / (host_config.get("CpuPeriod") or _PERIOD))
    return nano / 1e9 if nano > 0 and quota == 0 else None


def _quota(cpus: float) -> int:
    return max(_LEAST_QUOTA, round(cpus * _PERIOD))
