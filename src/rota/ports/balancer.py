"""What carries the users' requests: told by the engine, one step a call, who may be sent some."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from rota.core.backend import Backend
from rota.core.names import ReplicaId
from rota.core.observation import Address, Connections, ObservedBalancer, Reloads
from rota.core.tcp import Listener


class Balancer(Protocol):
    """Every call may be repeated after a crash and then changes nothing more. After each call the file on disk alone
    is enough to serve the right replicas. Raises StepFailed with a message for a person."""

    async def observe(self) -> Mapping[str, ObservedBalancer]:
        """Each app's part, by name; an app that is not there has no entry. When HAProxy does not answer, every known
        app is shown with ``process`` None."""
        ...

    async def connections(self) -> Connections:
        """What is open now, session by session: dearer than ``observe``, for people who ask. Raises StepFailed."""
        ...

    async def answering(self) -> str | None:
        """The identity of the HAProxy process that answers now; None when none does."""
        ...

    def reloads(self) -> Reloads:
        """When the next reload may come, and how long one takes, as far as is known without asking HAProxy."""
        ...

    def on_change(self, wake: Callable[[str], None]) -> None:
        """Calls ``wake(app)`` when HAProxy is lost or back, an old process of it has ended, or the checks of one of the
        app's servers begin to fail or pass again (within two seconds)."""
        ...

    async def refusal(self, app: str, listeners: Collection[Listener]) -> str:
        """Why HAProxy could not listen there for the app, as another program of the machine does; "" if it could."""
        ...

    async def prepare(self, backend: Backend, hosts: tuple[str, ...], listeners: tuple[Listener, ...] = ()) -> None:
        """Makes the backend exist, by a reload if need be, and the app's hosts, as sites (core.domains), known; moves
        no traffic between backends. Hosts that no backend of the app is routed to yet are routed to this one. The app
        listens on exactly these ``listeners``. Returns once the running HAProxy has it. May wait for the next batch of
        reloads."""
        ...

    async def route(self, app: str, shares: Mapping[str, int]) -> None:
        """Spreads the app's new requests over its backends by these weights (0 to 100, not all 0), atomically."""
        ...

    async def maintain(self, app: str, on: bool) -> None:
        """While it is on, each new request of the app is answered with 503 and a page, whatever its routes are, and is
        in no row."""
        ...

    async def enable(
        self,
        replica: ReplicaId,
        app: str,
        backend: str,
        address: Address,
        weight: int = 100,
        ports: tuple[tuple[int, int], ...] = (),
    ) -> None:
        """Adds the server if it is not there, with its health check, and sends it requests; in the file first.
        ``weight``, 1 to 100, is its share beside the others' of the backend. ``ports``: for each TCP service of the
        backend, by its listener's port, the replica's. From now on what is said of the server holds for those too."""
        ...

    async def weigh(self, replica: ReplicaId, weight: int) -> None:
        """Changes its share; in the file first. A server that is not there is no error."""
        ...

    async def drain(self, replica: ReplicaId) -> None:
        """No new sessions; holders of its cookie still come."""
        ...

    async def disable(self, replica: ReplicaId) -> None:
        """Nobody is sent to it any more (HAProxy: maint), and the file no longer has it. Open requests go on."""
        ...

    async def cut(self, replica: ReplicaId, leave: int = 0) -> None:
        """Ends the server's open requests and connections, over all HAProxy processes, until ``leave`` are left."""
        ...

    async def remove(self, replica: ReplicaId) -> None:
        """Takes the disabled server out; its counters are gone with it. A server that is not there is no error."""
        ...

    async def unroute(self, app: str) -> None:
        """Drops the app's hosts, backends and servers."""
        ...
