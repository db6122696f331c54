"""What HAProxy is to serve at this moment, and the files and the running worker's maps that say the same: changed
together, files first; used by balancer.py and adoption.py, each call under the adapter's lock."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.disk import Disk
from rota.adapters.balancer.haproxy.livemaps import LiveMaps, Texts
from rota.adapters.balancer.haproxy.state import App, State
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId


class Book:
    """``state`` is what the files hold; only ``lay_out`` is ahead of it, until the worker has started on them."""

    def __init__(self, disk: Disk, haproxy: Haproxy) -> None:
        self._disk = disk
        self._maps = LiveMaps(haproxy)
        self.state = State()

    def app(self, name: str) -> App:
        """Raises StepFailed for one that is not there."""
        if name not in self.state.apps:
            raise StepFailed(f"HAProxy knows no app {name} yet")
        return self.state.apps[name]

    async def write(self, state: State) -> None:
        """The files alone: no map differs by it, or HAProxy is to read them at its next reload."""
        held = self._maps.take()
        self._maps.keep(held, await self._disk.write(state))
        self.state = state

    async def change(self, state: State, *, maps_first: bool = False) -> None:
        held = self._maps.take()
        maps = await self._disk.write(state, maps_first=maps_first)
        self.state = state
        await self._maps.send(held, maps)

    async def lay_out(self, state: State) -> Texts:
        """Files for a worker that is to start on them; what they give as maps."""
        self._maps.take()
        return await self._disk.write(state)

    def started_on(self, state: State, maps: Texts) -> None:
        """A worker has read what was laid out."""
        self._maps.started_on(maps)
        self.state = state

    async def clear(self) -> None:
        """A worker runs on the files: what only those before them named may go."""
        await self._disk.clear(self.state)

    async def pin(self, replica: ReplicaId, pin: str) -> None:
        app = self.state.owner(replica)
        if app is not None and app.servers[replica].pin != pin:
            await self.change(self.state.with_app(app.pinned(replica, pin)))

    async def forget(self, replica: ReplicaId) -> None:
        app = self.state.owner(replica)
        if app is not None:
            await self.change(self.state.with_app(app.without_server(replica)))
