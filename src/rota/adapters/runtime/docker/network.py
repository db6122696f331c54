"""The server's own bridge network: containers are dialled at their addresses in it; made by the docker runtime.

An address is chosen by rota, not by the engine, which gives a freed one to the very next container while a balancer
may still dial the old one there. An engine takes chosen addresses only in a network whose subnet was chosen, so that
the network is made twice: once for the engine to find a free subnet, then with it."""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
from collections.abc import Callable, Iterator, Mapping
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
_OVERLAPS = "Pool overlaps"  # the engine's word for a subnet that another network has
_NO_SUBNET = ("non-overlapping IPv4 address pool", "address pools have been fully subnetted")
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
        self._making = asyncio.Lock()

    @property
    def gateway(self) -> str:
        """The machine's own address in it."""
        return str(self._there()[0][1])

    @property
    def subnet(self) -> str:
        return str(self._there()[0])

    async def ensure(self, *, in_use: bool = False) -> None:
        """The network is there, made now if need be. One that was there before keeps its subnet while it is ``in_use``,
        by containers that run at their addresses; else it moves where somebody has taken that. Raises StepFailed."""
        async with self._making:  # all starts that miss it ask at once
            try:
                found = await self._find()
                if found is not None and _CHOSEN not in found["Labels"]:
                    await self._client.delete(f"networks/{found['Id']}")
                    found = None
                self._stand_in(_subnet(found) if found is not None else await self._make(in_use))
            except Refused as refused:
                why = f"{refused.message}{_no_subnet(refused.message)}"
                raise StepFailed(f"the network {self._names.network} cannot be made: {why}") from refused

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

    def _stand_in(self, subnet: ipaddress.IPv4Network) -> None:
        if self._leases is not None and subnet == self._subnet:
            return
        if self._leases is not None:
            self._path.unlink(missing_ok=True)  # what is leased or rests is of the other subnet
        self._subnet = subnet
        self._leases = Leases(self._path, self._now, range(_FIRST, subnet.num_addresses - 1), "address")

    async def _make(self, in_use: bool) -> ipaddress.IPv4Network:
        """Raises Refused, and StepFailed when nothing but its former subnet would do."""
        if self._subnet is not None:
            try:
                return await self._made(self._subnet)
            except Refused as refused:
                if _OVERLAPS not in refused.message:
                    raise
                await self._give_way(self._subnet, in_use)
        for left in reversed(range(_TRIES)):
            subnet = await self._free_subnet()
            try:
                return await self._made(subnet)
            except Refused as refused:
                if not left:
                    raise
                _log.info("%s was taken meanwhile (%s); looking for another subnet", subnet, refused)
        raise AssertionError("unreachable")

    async def _give_way(self, subnet: ipaddress.IPv4Network, in_use: bool) -> None:
        """Raises StepFailed when it cannot: for its containers, or for the name server, which answers at its gateway
        until the daemon ends."""
        holder = await self._holder(subnet)
        if not in_use and not self.resolvers:
            _log.warning("the network %s moves: %s has taken its subnet %s", self._names.network, holder, subnet)
            return
        way_out = "stop this server's apps and start them again" if in_use else "start rota serve again"
        raise StepFailed(
            f"the network {self._names.network} cannot be made again: the network {holder} has taken its subnet "
            f"{subnet}; remove that one (docker network rm {holder}), or {way_out}"
        )

    async def _holder(self, subnet: ipaddress.IPv4Network) -> str:
        """The network that has it, or a part of it."""
        for network in await self._client.get("networks"):
            if any(subnet.overlaps(other) for other in _subnets(network)):
                return str(network["Name"])
        return "that"

    async def _free_subnet(self) -> ipaddress.IPv4Network:
        made = await self._create({}, None)
        subnet = _subnet(await self._client.get(f"networks/{made}"))
        await self._client.delete(f"networks/{made}")
        return subnet

    async def _made(self, subnet: ipaddress.IPv4Network) -> ipaddress.IPv4Network:
        await self._create({_CHOSEN: str(subnet)}, {"Subnet": str(subnet), "Gateway": str(subnet[1])})
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


def _no_subnet(message: str) -> str:
    """What there is to do when the engine has none left; empty when that is not what the message says."""
    full = any(sign in message for sign in _NO_SUBNET)
    return "; docker network prune frees the subnets of those that nobody uses" if full else ""


def _subnet(network: Mapping[str, Any]) -> ipaddress.IPv4Network:
    return next(_subnets(network))


def _subnets(network: Mapping[str, Any]) -> Iterator[ipaddress.IPv4Network]:
    """Those of IPv4; networks of other drivers have none at times."""
    for pool in (network.get("IPAM") or {}).get("Config") or ():
        if ":" not in (subnet := str(pool.get("Subnet") or ":")):
            yield ipaddress.IPv4Network(subnet)
