"""A replica's servers: one in its pool's own backend and one in that of each of the pool's TCP services, under names
that say whose they are; pure, used by all that names or reads servers."""

from __future__ import annotations

from dataclasses import dataclass

from rota.adapters.balancer.haproxy.state import Server
from rota.adapters.balancer.haproxy.words import word
from rota.core.names import ReplicaId
from rota.core.observation import Address


@dataclass(frozen=True)
class Part:
    """One of them; ``service`` is the port that its TCP service listens on, None for the pool's own."""

    backend: str
    name: str
    address: Address
    service: int | None = None

    @property
    def path(self) -> str:
        return path_of(self.backend, self.name)


def parts_of(server: Server) -> tuple[Part, ...]:
    own = Part(server.backend, server.replica, server.address)
    services = (
        Part(
            service_backend(server.backend, service),
            f"{server.replica}.{service}",
            Address(own.address.host, port),
            service,
        )
        for service, port in server.ports
    )
    return (own, *services)


def path_of(backend: str, name: str) -> str:
    """As the socket's commands take it."""
    return f"{word(backend)}/{word(name)}"


def service_backend(pool: str, service: int) -> str:
    return f"{pool}.{service}"


def replica_of(name: str) -> ReplicaId:
    """Whose server it is: a replica's name holds no dot."""
    return ReplicaId(name.partition(".")[0])


def app_of_replica(replica: ReplicaId) -> str:
    return replica.rpartition("-")[0]


def service_of(name: str) -> str:
    """The port that the server's TCP service listens on; "" for the pool's own."""
    return name.partition(".")[2]


def pool_of(backend: str) -> str:
    """The pool that a backend, of its own or of a TCP service, belongs to."""
    return ".".join(backend.split(".")[:2])
