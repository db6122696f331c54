"""Containers made by bare calls to an engine, without rota: alone for a replica's own times, many at once for the price
of starting them. Used by docker_cost, which sets rota's times beside them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import aiohttp
from bare import OwnTimes, accepting, ready

from rota.core.healthcheck import Check
from rota.core.observation import Address

AT_ONCE = 4  # measured.md, 5: more gain nothing here
MANY_POLL, MANY_PATIENCE = 0.05, 180.0  # seconds: that many boot slowly, and are not to be slowed down by being asked


class BareContainers:
    """``like`` is the inspection of a container of rota's: the bare ones have its image, rights and network."""

    def __init__(self, host: str, like: Mapping[str, Any], check: Check) -> None:
        self._socket = host.removeprefix("unix://")
        self._network = str(like["HostConfig"]["NetworkMode"])
        self._body = {
            "Image": like["Image"],
            "Env": like["Config"]["Env"],
            "StopSignal": like["Config"]["StopSignal"],
            "HostConfig": like["HostConfig"] | {"Mounts": []},
        }
        self._check = check

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._socket)
        self._session = aiohttp.ClientSession("http://engine", connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def one(self) -> OwnTimes:
        """One life: created and started until it accepts, ready, stopped, removed. Raises TimeoutError."""
        marks = [time.monotonic()]
        container = await self._start()
        address = await self._address(container)
        await accepting(address)
        marks.append(time.monotonic())
        await ready(address, self._check)
        marks.append(time.monotonic())
        await self._post(f"containers/{container}/kill", signal="SIGTERM")
        await self._post(f"containers/{container}/wait")
        marks.append(time.monotonic())
        await self._remove(container)
        marks.append(time.monotonic())
        return OwnTimes(*(after - before for before, after in pairwise(marks)))

    async def many(self, count: int) -> tuple[float, float]:
        """Seconds until so many have been started, as fast as the engine takes them, and until all of them are ready;
        they are removed again."""
        began = time.monotonic()
        room = asyncio.Semaphore(AT_ONCE)
        started: list[float] = []

        async def start() -> str:
            async with room:
                container = await self._start()
            started.append(time.monotonic())
            address = await self._address(container)
            await accepting(address, MANY_POLL, MANY_PATIENCE)
            await ready(address, self._check)
            return container

        containers = await asyncio.gather(*(start() for _ in range(count)))
        took = time.monotonic() - began
        for container in containers:
            await self._remove(container)
        return max(started) - began, took

    async def _start(self) -> str:
        created = await self._post("containers/create", body=self._body)
        await self._post(f"containers/{created['Id']}/start")
        return str(created["Id"])

    async def _address(self, container: str) -> Address:
        async with self._session.get(f"/containers/{container}/json") as answer:
            seen = await answer.json()
        port = next(entry.partition("=")[2] for entry in self._body["Env"] if entry.startswith("PORT="))
        return Address(seen["NetworkSettings"]["Networks"][self._network]["IPAddress"], int(port))

    async def _remove(self, container: str) -> None:
        async with self._session.delete(f"/containers/{container}", params={"force": "1", "v": "1"}) as answer:
            answer.raise_for_status()

    async def _post(self, path: str, body: Any = None, **query: str) -> Any:
        async with self._session.post(f"/{path}", params=query, json=body) as answer:
            answer.raise_for_status()
            return await answer.json() if answer.content_type == "application/json" else None
