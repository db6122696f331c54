"""The starts of containers: an address, a container with it, its further network, its program; used by the docker
runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from contextlib import suppress
from typing import Any

from rota.adapters.runtime.docker import program
from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.creation import creation
from rota.adapters.runtime.docker.failures import address_lost, ending, half_started, not_started
from rota.adapters.runtime.docker.images import Images
from rota.adapters.runtime.docker.inspection import Inspection
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.names import SERVER, Names
from rota.adapters.runtime.docker.network import OwnNetwork
from rota.adapters.runtime.docker.table import Table
from rota.core.errors import StartFailed, StepFailed
from rota.core.names import ReplicaId
from rota.ports.runtime import ReleaseOrder, StartOrder

AT_ONCE = 4  # more gain nothing (measured on 2 cores: 152 ms one by one, 81 to 90 ms each with 4)
_TRIES = 3  # of an address, when somebody else's container has taken one


class Starts:
    def __init__(self, client: Client, names: Names, network: OwnNetwork, images: Images, table: Table) -> None:
        self._client = client
        self._names = names
        self._network = network
        self._images = images
        self._table = table
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._checked: set[Hashable] = set()

    async def start(self, order: StartOrder) -> None:
        """It runs, and is in the table, when this returns. Raises StartFailed; EngineLost, after which it may be asked
        for again."""
        image = await self._images.image_of(ReleaseOrder(order.app, order.release, None, order.spec))
        async with self._slots:
            for left in reversed(range(_TRIES)):
                try:
                    if await self._runs(order, image, last=not left):
                        return
                except EngineLost:
                    raise  # it keeps its address: what was asked for may have been done
                except StepFailed:
                    self._network.give_back(order.replica)
                    raise
                self._network.give_back(order.replica)

    async def discard(self, container: str) -> None:
        """Nothing is left of it, its nameless volumes included; one that is gone is no error."""
        try:
            await self._client.delete(f"containers/{container}", {"v": 1})
        except Refused as refused:
            await self._table.refresh(container)
            left = any(entry.seen.id == container for entry in self._table.entries)
            if left and refused.http_status != 404 and "already in progress" not in refused.message:
                raise
            return
        await self._table.refresh(container)

    async def _runs(self, order: StartOrder, image: Mapping[str, Any], *, last: bool) -> bool:
        """False when the next try may go better. Raises StartFailed, and StepFailed when there is no network."""
        try:
            await self._create_and_start(order, image)
        except Refused as refused:
            if not await self._is_mended(order.replica, refused.message) or last:
                raise not_started(order, refused.message) from refused
            return False
        return True

    async def _is_mended(self, replica: ReplicaId, refusal: str) -> bool:
        """Whether the next try may go better. Raises EngineLost when it may after a moment."""
        if ending(refusal):
            raise EngineLost(f"the engine is being stopped: {refusal}")
        if f"network {self._names.network} not found" in refusal:
            in_use = any(entry.seen.running for entry in self._table.entries)
            await self._network.ensure(in_use=in_use)  # somebody has removed it
            return True
        if half_started(refusal):
            # The name's place in the network outlives the container where the engine was stopped between the two.
            body = {"Container": self._names.container(replica), "Force": True}
            with suppress(Refused):
                await self._client.post(f"networks/{self._names.network}/disconnect", body=body)
            raise EngineLost(f"the engine kept one half of an earlier start: {refusal}")
        return address_lost(refusal)

    async def _create_and_start(self, order: StartOrder, image: Mapping[str, Any]) -> None:
        """Raises Refused and StartFailed, with nothing left."""
        container = await self._create(order, image)
        if container is None:
            return
        try:
            await self._complete(order, image, container)
            await self._client.post(f"containers/{container}/start")
        except (Refused, StartFailed):
            await self.discard(container)
            raise
        await self._table.refresh(container)

    async def _create(self, order: StartOrder, image: Mapping[str, Any]) -> str | None:
        """The id of the replica's new container; None when an earlier try has started one."""
        labels = Labels.of(order, await self._network.lease(order.replica))
        name = self._names.container(order.replica)
        body = creation(order, labels, image, self._names)
        body["HostConfig"]["Dns"] = list(self._network.resolvers)
        try:
            return await self._created(name, body)
        except Refused as refused:
            if refused.http_status != 409:
                raise
        found = await self._of_an_earlier_try(order.replica, name)
        if not found.created_only and not found.dead:
            await self._table.refresh(found.id)
            return None
        await self.discard(found.id)
        try:
            return await self._created(name, body)
        except Refused as refused:
            if refused.http_status != 409:
                raise
        # What the engine cannot remove (remnants) is nobody's any more, and has the name all the same.
        await self._client.post(f"containers/{found.id}/rename", {"name": f"{name}.{found.id[:12]}"})
        return await self._created(name, body)

    async def _created(self, name: str, body: dict[str, Any]) -> str:
        return str((await self._client.post("containers/create", {"name": name}, body))["Id"])

    async def _of_an_earlier_try(self, replica: ReplicaId, name: str) -> Inspection:
        found = Inspection(await self._client.get(f"containers/{name}/json"))
        if (found.labels.get(SERVER), found.labels.get("rota.replica")) != (self._names.server_id, replica):
            raise StartFailed(f"there is a container {name} that is not this server's; remove it or rename it")
        return found

    async def _complete(self, order: StartOrder, image: Mapping[str, Any], created: str) -> None:
        """What cannot be said at its creation (older engines take one network there), and what is to be known first."""
        question = _question(order, image)
        if question not in self._checked:
            inspection = await self._client.get(f"containers/{created}/json")
            if await program.check(self._client, created, inspection["Config"]):
                self._checked.add(question)
        if order.spec.network is not None:
            await self._client.post(f"networks/{order.spec.network}/connect", body={"Container": created})


def _question(order: StartOrder, image: Mapping[str, Any]) -> Hashable:
    """All that decides whether there is a program to start."""
    return str(image["Id"]), tuple(order.spec.command), order.spec.env, order.spec.volumes
