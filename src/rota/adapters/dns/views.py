"""The views of DNS that a server has, by their names: rota's own where ``--dns`` gives an address, and a zone each of
``--dns-zones``; opened, closed and shown by the composition root."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rota.adapters.dns.internal import VIEW, InternalDns
from rota.adapters.dns.kept import KeptNameServer, listens_on, refuse_in_use, stop
from rota.adapters.dns.settings import HostedSettings, ZoneSettings
from rota.adapters.keeper.client import Children
from rota.core.errors import Missing
from rota.ports.dns import Dns

if TYPE_CHECKING:
    from rota.adapters.dns.outside import ZoneDns

log = logging.getLogger(__name__)


class Bridge(Protocol):
    """The network that replicas have to themselves. ``resolvers`` are what new ones ask for names, in this order."""

    resolvers: tuple[str, ...]

    @property
    def gateway(self) -> str:
        """The machine's own address in it."""
        ...

    @property
    def subnet(self) -> str: ...


class DnsViews:
    """``children`` is open before ``open`` and closed by whoever opened it. ``networks`` may ask the name server for
    other names too. ``ttl`` is that of rota's own names."""

    def __init__(
        self,
        children: Children,
        directory: Path,
        listen: str | None = None,
        networks: Sequence[str] = (),
        zones: Sequence[ZoneSettings | HostedSettings] = (),
        ttl: int = 1,
    ) -> None:
        self._children = children
        self._directory = directory
        self._listen = listen
        self._networks = networks
        self._settings = zones
        self._ttl = ttl
        self._server: KeptNameServer | None = None
        self._zones: list[ZoneDns] = []
        self.views: dict[str, Dns] = {}

    async def open(self, bridge: Bridge | None = None) -> Mapping[str, Dns]:
        """The name server answers when it returns, in the bridge too where that is possible; one that is not asked for
        any more is ended. Raises Missing."""
        if self._listen is None:
            await stop(self._children)
        else:
            self._server = self._for(self._listen, bridge)
            internal = InternalDns(self._server.table, self._server, self._ttl)
            await internal.open()
            await self._server.ensure()
            self.views[VIEW] = internal
        if self._settings:
            self._open_zones()
        return self.views

    async def close(self) -> None:
        """The name server goes on."""
        for zone in self._zones:
            await zone.close()

    async def stop(self) -> None:
        """Ends the name server, for good."""
        await stop(self._children)

    def about(self) -> dict[str, Any] | None:
        if not self.views:
            return None
        pid = self._server.pid if self._server is not None else None
        return {"listen": self._listen, "pid": pid, "zones": [zone.name for zone in self._zones]}

    def _for(self, listen: str, bridge: Bridge | None) -> KeptNameServer:
        """A container asks port 53 and no other."""
        if bridge is None:
            return KeptNameServer(self._children, self._directory, [listen], self._networks)
        own = f"{bridge.gateway}:53"
        if own != listen and not listens_on(self._children, own):
            try:
                refuse_in_use(own)
            except Missing as missing:
                log.warning("containers do not find rota's names: %s", missing)
                return KeptNameServer(self._children, self._directory, [listen], self._networks)
        bridge.resolvers = (bridge.gateway, *_of_the_host(Path("/etc/resolv.conf")))
        addresses = dict.fromkeys([listen, own])
        return KeptNameServer(self._children, self._directory, list(addresses), [*self._networks, bridge.subnet])

    def _open_zones(self) -> None:
        # dnspython's client takes a while to import: a server without zones is not to wait for it.
        from rota.adapters.dns.outside import ZoneDns

        for settings in self._settings:
            zone = ZoneDns(settings, self._children.data_dir_id, memory=self._directory / "ttls")
            zone.open()
            self._zones.append(zone)
            self.views[zone.name] = zone


def _of_the_host(resolv_conf: Path) -> list[str]:
    """Its resolvers, but for those on its loopback, which a container has not."""
    try:
        lines = resolv_conf.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    named = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]
    return [host for host in named if _is_reachable(host)]


def _is_reachable(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
