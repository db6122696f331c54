"""What somebody has done to this server's containers behind its back, and what only looks like one of them: logged once
each, and kept to be shown; told by the table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence, Set

from rota.adapters.runtime.docker.alterations import altered, moved
from rota.adapters.runtime.docker.inspection import Capability, Inspection
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.names import Names
from rota.core.observation import ObservedReplica, Stranger
from rota.core.spec import Limits

_log = logging.getLogger(__name__)


class Oddities:
    def __init__(self, names: Names) -> None:
        self._names = names
        self._said: dict[str, Set[str]] = {}
        self._strangers: dict[str, Stranger] = {}

    @property
    def known(self) -> Set[str]:
        """The containers of which something was said, or looked for."""
        return self._said.keys()

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        return tuple(self._strangers.values())

    def stranger(self, seen: Inspection, reason: str) -> None:
        """It has this server's label and is not its own."""
        said = f"container {seen.name} has this server's label, but {reason}: left alone"
        self._strangers[seen.id] = Stranger(seen.labels.get("rota.app", ""), said)
        self._say(seen.id, {"stranger": said})

    def look(
        self,
        seen: Inspection,
        labels: Labels,
        replica: ObservedReplica,
        expected: Sequence[Limits],
        capability: Capability,
    ) -> tuple[str, ...]:
        """What there is to say of it; what is over is logged again when it comes back."""
        found = {**dict(self._found(seen, labels, replica, expected)), **dict(self._altered(seen, labels, capability))}
        self._strangers.pop(seen.id, None)
        self._say(seen.id, found)
        return tuple(found.values())

    def gone(self, container: str) -> None:
        self._said.pop(container, None)
        self._strangers.pop(container, None)

    def _say(self, container: str, found: Mapping[str, str]) -> None:
        for kind in found.keys() - self._said.get(container, set()):
            _log.warning("%s", found[kind])
        self._said[container] = found.keys()

    def _found(
        self, seen: Inspection, labels: Labels, replica: ObservedReplica, expected: Sequence[Limits]
    ) -> Iterator[tuple[str, str]]:
        """Each by its kind."""
        expected_name, name = self._names.container(labels.replica), seen.name
        if name != expected_name:
            yield "name", f"container {expected_name} was renamed to {name}: rota goes on with it"
        if seen.paused:
            yield "paused", f"container {name} is paused by hand: it answers nobody until docker unpause {name}"
        if replica.limits not in expected:
            yield "limits", f"the limits of container {name} were changed by hand to {replica.limits.written()}"
        if replica.address is None:
            yield "network", f"container {name} was taken out of the network {self._names.network}: nobody reaches it"
        policy = (seen.host_config.get("RestartPolicy") or {}).get("Name") or "no"
        if policy != "no":
            yield (
                "policy",
                f"container {name} got the restart policy {policy} by hand: the engine and rota both restart it",
            )

    def _altered(self, seen: Inspection, labels: Labels, capability: Capability) -> Iterator[tuple[str, str]]:
        """What rota leaves as it is."""
        name = seen.name
        for option, value in altered(seen.host_config, labels.pids, capability):
            yield option, f"container {name} was changed by hand (docker update --{option} {value}): rota leaves it so"
        if seen.created_only:
            return  # its further network comes after its creation
        more, fewer = moved(seen.networks, self._names.network, labels.network)
        for network in sorted(more):
            yield f"in {network}", f"container {name} was put into the network {network} by hand: rota leaves it there"
        for network in sorted(fewer):
            yield (
                f"out of {network}",
                f"container {name} was taken out of the network {network} that its file names: "
                f"docker network connect {network} {name}",
            )
