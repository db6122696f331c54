"""What somebody has done to this server's containers behind its back, said once each, by name; told by the table."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence, Set

from rota.adapters.runtime.docker.inspection import Inspection
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.names import Names
from rota.core.observation import ObservedReplica
from rota.core.spec import Limits

_log = logging.getLogger(__name__)


class Oddities:
    def __init__(self, names: Names) -> None:
        self._names = names
        self._said: dict[str, frozenset[str]] = {}

    def stranger(self, seen: Inspection, reason: str) -> None:
        """It has this server's label and is not its own."""
        self._say(
            seen.id, frozenset({f"container {seen.name} has this server's label, but {reason}: it is left alone"})
        )

    def look(self, seen: Inspection, labels: Labels, replica: ObservedReplica, expected: Sequence[Limits]) -> None:
        """What is over may be said again when it comes back."""
        self._say(seen.id, frozenset(self._found(seen, labels, replica, expected)))

    def keep(self, containers: Set[str]) -> None:
        """Forgets all others."""
        self._said = {container: said for container, said in self._said.items() if container in containers}

    def _say(self, container: str, found: frozenset[str]) -> None:
        for sentence in sorted(found - self._said.get(container, frozenset())):
            _log.warning("%s", sentence)
        self._said[container] = found

    def _found(
        self, seen: Inspection, labels: Labels, replica: ObservedReplica, expected: Sequence[Limits]
    ) -> Iterator[str]:
        name = self._names.container(labels.replica)
        if seen.name != name:
            yield f"container {name} was renamed to {seen.name}: rota goes on with it"
        if seen.paused:
            yield f"container {seen.name} is paused by hand: it answers nobody until docker unpause {seen.name}"
        if replica.limits not in expected:
            yield f"the limits of container {seen.name} were changed by hand to {replica.limits.written()}"
        if replica.address is None:
            yield f"container {seen.name} was taken out of the network {self._names.network}: nobody can reach it"
        policy = (seen.host_config.get("RestartPolicy") or {}).get("Name") or "no"
        if policy != "no":
            yield f"container {seen.name} got the restart policy {policy} by hand: the engine and rota both restart it"
