"""The labels of a container, enough to know the replica again without any record; pure."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from pydantic import ValidationError

from rota.adapters.runtime.docker.names import SERVER
from rota.core.accepted import Accepted
from rota.core.container import DEFAULT_PORT
from rota.core.names import ReplicaId
from rota.core.spec import Limits
from rota.core.tcp import targets, variables
from rota.ports.runtime import StartOrder

_LIMITS = Accepted(Limits)


class BrokenLabels(ValueError):
    """Not written by this runtime: the container is left alone."""


@dataclass(frozen=True)
class Labels:
    """What rota wrote to a container when it created it. ``generation`` and ``limits`` are those of its first run;
    ``network`` is the file's, empty without one. Earlier versions wrote neither that nor ``pids``."""

    replica: ReplicaId
    app: str
    slot: int
    release: int
    generation: int
    limits: Limits
    address: str
    port: int
    stop_signal: str
    ports: tuple[int, ...] = ()
    network: str | None = None
    pids: int | None = None

    @classmethod
    def of(cls, order: StartOrder, address: str) -> Self:
        return cls(
            replica=order.replica,
            app=order.app,
            slot=order.slot,
            release=order.release,
            generation=order.generation,
            limits=order.limits,
            address=address,
            port=order.spec.main_port or DEFAULT_PORT,
            stop_signal=order.spec.stop_signal,
            ports=targets(order.spec.ports),
            network=order.spec.network or "",
            pids=order.spec.container.pids,
        )

    def written(self, server_id: str) -> dict[str, str]:
        plain = {name: value for name, value in vars(self).items() if name not in {"limits", "ports"}}
        values = {f"rota.{name}": str(value) for name, value in plain.items() if value is not None}
        if self.ports:
            values["rota.ports"] = " ".join(map(str, self.ports))
        return {SERVER: server_id, **values, "rota.limits": json.dumps(self.limits.model_dump())}

    @property
    def variables(self) -> dict[str, str]:
        """What the container finds in its environment (S2; design.md, "Ports of a replica")."""
        return {
            "PORT": str(self.port),
            **variables(self.as_named),
            "ROTA_APP": self.app,
            "ROTA_RELEASE": str(self.release),
            "ROTA_SLOT": str(self.slot),
            "ROTA_REPLICA": self.replica,
        }

    @property
    def as_named(self) -> dict[int, int]:
        """A container has its network to itself: each of its ports is the one that the file names."""
        return {port: port for port in self.ports}

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """From a container's Config. Raises BrokenLabels, also when its environment tells another story: then somebody
        has copied the labels to a container of his own."""
        written: Mapping[str, str] = config.get("Labels") or {}
        try:
            labels = cls(
                replica=ReplicaId(_text(written["rota.replica"])),
                app=_text(written["rota.app"]),
                slot=int(written["rota.slot"]),
                release=int(written["rota.release"]),
                generation=int(written["rota.generation"]),
                limits=_LIMITS.read(written["rota.limits"]),
                address=str(ipaddress.ip_address(written["rota.address"])),
                port=int(written["rota.port"]),
                stop_signal=_text(written["rota.stop_signal"]),
                ports=tuple(map(int, written.get("rota.ports", "").split())),
                network=written.get("rota.network"),
                pids=int(written["rota.pids"]) if "rota.pids" in written else None,
            )
        except KeyError as missing:
            raise BrokenLabels(f"the label {missing} is missing") from None
        except (TypeError, ValueError, ValidationError) as error:
            raise BrokenLabels(str(error)) from None
        environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        for name, value in labels.variables.items():
            if environment.get(name) != value:
                raise BrokenLabels(f"its environment has {name}={environment.get(name)}, its labels say {value}")
        return labels


def _text(value: str) -> str:
    if not value:
        raise ValueError("a label is empty")
    return value
