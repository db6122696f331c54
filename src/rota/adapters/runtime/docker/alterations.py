"""Which settings of a container are not as rota made them, in the words of ``docker update``, and which networks; pure.

Memory, CPUs and the restart policy are looked at elsewhere: rota changes the former two itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import Any

from rota.adapters.runtime.docker.inspection import Capability

_NOT_SET = {
    "blkio-weight": "BlkioWeight",
    "cpu-rt-period": "CpuRealtimePeriod",
    "cpu-rt-runtime": "CpuRealtimeRuntime",
    "cpu-shares": "CpuShares",
    "cpuset-cpus": "CpusetCpus",
    "cpuset-mems": "CpusetMems",
    "memory-reservation": "MemoryReservation",
}


def altered(host_config: Mapping[str, Any], pids: int | None, capability: Capability) -> Iterator[tuple[str, object]]:
    """Each option with its present value. ``pids`` is what rota asked for; None: nobody knows."""
    for option, key in _NOT_SET.items():
        if value := host_config.get(key):
            yield option, value
    processes = host_config.get("PidsLimit") or -1
    if capability.pids and pids is not None and processes != pids:
        yield "pids-limit", processes
    memory, swap = host_config.get("Memory") or 0, host_config.get("MemorySwap") or 0
    if capability.swap and swap != memory:  # without its account the engine writes another figure itself
        yield "memory-swap", swap


def moved(places: Mapping[str, Mapping[str, Any]], own: str, further: str | None) -> tuple[Set[str], Set[str]]:
    """The networks that it was put into, and taken out of, but for the own one. ``further`` is the one that the file
    names, by its name or its id; None: nobody knows."""
    if further is None:
        return set(), set()
    named = {name for name, place in places.items() if further and _is(further, name, place)}
    return places.keys() - {own} - named, {further} - {""} if not named else set()


def _is(wanted: str, name: str, place: Mapping[str, Any]) -> bool:
    return wanted == name or str(place.get("NetworkID") or "").startswith(wanted)
