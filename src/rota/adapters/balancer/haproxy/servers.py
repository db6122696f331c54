"""The servers of the current worker, told over its socket: put there, moved from state to state, given their share and
taken out; used by balancer.py."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

from rota.adapters.balancer.haproxy.backends import server_words
from rota.adapters.balancer.haproxy.parts import Part, parts_of, path_of, replica_of
from rota.adapters.balancer.haproxy.state import Pool, Server, State
from rota.adapters.balancer.haproxy.stats import Entry
from rota.adapters.balancer.haproxy.words import word
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import ServerState

_REMOVE_DEADLINE = 5.0
_POLL = 0.01
_STATE_SAID = ("no need to change", "IP changed", "port changed")
GONE = ("No such server", "No such backend", "Can't find")


class Servers:
    def __init__(self, haproxy: Haproxy) -> None:
        self._haproxy = haproxy

    async def paths(self, state: State, replica: ReplicaId) -> list[str]:
        """``backend/server`` of each of its own by the file, else as the current worker has them."""
        owner = state.owner(replica)
        if owner is not None:
            return [part.path for part in parts_of(owner.servers[replica])]
        entries = (await self._haproxy.entries()).items()
        return [path_of(entry.backend, name) for name, entry in entries if replica_of(name) == replica]

    async def put(self, pool: Pool, server: Server) -> None:
        """In rotation, whatever is there of it."""
        for part in parts_of(server):
            await self._put(pool, server, part, await self._haproxy.entries(word(part.backend)))

    async def complete(self, pool: Pool, server: Server, entries: Mapping[str, Entry]) -> None:
        """Adds what is missing of it; ``entries`` are all that there are."""
        for part in parts_of(server):
            if part.name not in entries:
                await self._put(pool, server, part, entries)

    async def set_state(self, paths: Collection[str], state: str) -> None:
        await self._tell([f"set server {path} state {state}" for path in paths])

    async def weigh(self, paths: Collection[str], weight: int) -> None:
        await self._tell([f"set server {path} weight {weight}" for path in paths])

    async def shut(self, paths: Collection[str]) -> None:
        """Ends what is open to them in the current worker."""
        await self._tell([f"shutdown sessions server {path}" for path in paths])

    async def delete(self, path: str) -> None:
        command = f"del server {path}"
        refused = ""
        try:
            async with asyncio.timeout(_REMOVE_DEADLINE):
                while True:
                    refused = (await self._haproxy.tell(command, accept=("",))).strip()
                    if refused.startswith(("Server deleted", *GONE)):
                        return
                    await asyncio.sleep(_POLL)
        except TimeoutError as error:
            name = replica_of(path.partition("/")[2])
            raise StepFailed(f"HAProxy does not let {name} go: {refused}") from error

    async def carry_over(self, before: Mapping[str, Entry]) -> None:
        """What a reload makes forget: who was draining, and who failed its checks."""
        for name, entry in before.items():
            path = path_of(entry.backend, name)
            if entry.state is ServerState.DRAIN:
                await self.set_state([path], "drain")
            elif not entry.up and entry.state is ServerState.READY:
                await self._tell([f"set server {path} health down"])

    async def _put(self, pool: Pool, server: Server, part: Part, entries: Mapping[str, Entry]) -> None:
        path, present = part.path, entries.get(part.name)
        sticky = pool.backend.cookie is not None and part.service is None
        # Without it a server that is added gets no value, and its users an empty cookie (2.6, measured).
        cookies = f";enable dynamic-cookie backend {word(part.backend)}" if sticky else ""
        address = (part.address.host, part.address.port)
        if present is None:
            words = server_words(pool.backend, part, server.weight)
            enable = f"enable health {path};enable server {path}"
            await self._haproxy.tell(f"add server {path} {words};{enable}{cookies}", accept=["New server registered"])
        elif (present.state, present.address, present.weight) != (ServerState.READY, address, server.weight):
            host, port = address
            move = f"set server {path} addr {host} port {port};set server {path} weight {server.weight}"
            await self._haproxy.tell(f"{move};set server {path} state ready{cookies}", accept=_STATE_SAID)

    async def _tell(self, commands: list[str]) -> None:
        if commands:
            await self._haproxy.tell(";".join(commands), accept=GONE)
