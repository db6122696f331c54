"""The server's own bridge network: containers are dialled at their addresses in it; made by the docker runtime.

An address is chosen by rota, not by the engine, which gives a freed one to the very next container while a balancer
may still dial the old one there. An engine takes chosen addresses only in a network whose subnet was chosen, so that
the network is made twice: once for the engine to find a free subnet, then with it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rota.adapters.runtime.docker.client import Client, Refused
from rota.adapters.runtime.docker.names import SERVER, Names
from rota.adapters.runtime.leases import Leases
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId

_log = logging.getLogger(__name__)
_CHOSEN = "rota.subnet"
_TRIES = 3
_FIRST = 2  # 0 is the network's, 1 the gateway's


class OwnNetwork:
    """``ensure`` first. What is leased is kept at ``path``; ``now`` is in seconds."""

    def __init__(self, client: Client, names: Names, path: Path, now: Callable[[], float]) -> None:
        self._client = client
        self._names = names
        self._path = path
        self._now = now
        self.resolvers: tuple[str, ...] = ()
        """What new containers ask for names; none: the engine's."""
        self._subnet: ipaddress.IPv4Network | None = None
        self._leases: Leases | None = None

    @property
    def gateway(self) -> str:
        """The machine's own address in it."""
        return str(self._there()[0][1])

    @property
    def subnet(self) -> str:
        return str(self._there()[0])

    async def ensure(self) -> None:
        """The network is there, made now if need be. Raises StepFailed."""
        try:
            found = await self._find()
            if found is not None and _CHOSEN not in found["Labels"]:
                await self._client.delete(f"networks/{found['Id']}")
                found = None
            self._subnet = _subnet(found) if found is not None else await self._make()
            if self._leases is None:
                offsets = range(_FIRST, self._subnet.num_addresses - 1)
                self._leases = Leases(self._path, self._now, offsets, "address")
        except Refused as refused:
            raise StepFailed(f"the network {self._names.network} cannot be made: {refused.message}") from refused

    async def lease(self, replica: ReplicaId) -> str:
        """The replica's address, the same until it is given back. Raises StartFailed when all are taken."""
        subnet, leases = self._there()
        return str(subnet[await asyncio.to_thread(leases.lease, replica)])

    def give_back(self, replica: ReplicaId) -> None:
        """Begins the rest of its address; one that has none is no error."""
        if self._leases is not None:
            self._leases.give_back(replica)

    def agree(self, running: Mapping[ReplicaId, str]) -> None:
        """At the start: what is there holds its address, all else is given back."""
        subnet, leases = self._there()
        addresses = {replica: ipaddress.ip_address(address) for replica, address in running.items()}
        first = int(subnet.network_address)
        leases.agree({replica: int(one) - first for replica, one in addresses.items() if one in subnet})

    async def remove(self) -> None:
        """For a server that is given up; one that still has containers stays. Raises StepFailed."""
        found = await self._find()
        if found is not None:
            await self._client.delete(f"networks/{found['Id']}")

    def _there(self) -> tuple[ipaddress.IPv4Network, Leases]:
        if self._subnet is None or self._leases is None:
            raise StepFailed(f"the network {self._names.network} is not there yet")
        return self._subnet, self._leases

    async def _find(self) -> dict[str, Any] | None:
        named = await self._client.get("networks", {"filters": json.dumps({"name": [self._names.network]})})
        for network in named:
            if network["Name"] != self._names.network:
                continue  # the filter takes parts of names too
            if (network["Labels"] or {}).get(SERVER) != self._names.server_id:
                raise StepFailed(
                    f"there is a network {self._names.network} that is not this server's; remove it or rename it"
                )
            return dict(network)
        return None

    async def _make(self) -> ipaddress.IPv4Network:
        for left in reversed(range(_TRIES)):
            subnet = self._subnet or await self._free_subnet()
            try:
                await self._create({_CHOSEN: str(subnet)}, {"Subnet": str(subnet), "Gateway": str(subnet[1])})
                return subnet
            except Refused as refused:
                if not left or self._subnet is not None:
                    raise
                _log.info("%s was taken meanwhile (%s); looking for another subnet", subnet, refused)
        raise AssertionError("unreachable")

    async def _free_subnet(self) -> ipaddress.IPv4Network:
        made = await self._create({}, None)
        subnet = _subnet(await self._client.get(f"networks/{made}"))
        await self._client.delete(f"networks/{made}")
        return subnet

    async def _create(self, labels: dict[str, str], pool: dict[str, str] | None) -> str:
        body: dict[str, Any] = {
            "Name": self._names.network,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": {SERVER: self._names.server_id, **labels},
        }
        if pool is not None:
            body["IPAM"] = {"Config": [pool]}
        return str((await self._client.post("networks/create", body=body))["Id"])


def _subnet(network: dict[str, Any]) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(network["IPAM"]["Config"][0]["Subnet"])
