"""The views of DNS that a server has, by their names: rota's own where ``--dns`` gives an address, and a zone each of
``--dns-zones``; opened, closed and shown by the composition root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rota.adapters.dns.internal import VIEW, InternalDns
from rota.adapters.dns.kept import KeptNameServer, stop
from rota.adapters.dns.settings import ZoneSettings
from rota.adapters.keeper.client import Children
from rota.ports.dns import Dns

if TYPE_CHECKING:
    from rota.adapters.dns.rfc2136 import ZoneDns


class DnsViews:
    """``children`` is open before ``open`` and closed by whoever opened it. ``networks`` may ask the name server for
    other names too."""

    def __init__(
        self,
        children: Children,
        directory: Path,
        listen: str | None = None,
        networks: Sequence[str] = (),
        zones: Sequence[ZoneSettings] = (),
    ) -> None:
        self._children = children
        self._directory = directory
        self._listen = listen
        self._networks = networks
        self._settings = zones
        self._server: KeptNameServer | None = None
        self._zones: list[ZoneDns] = []
        self.views: dict[str, Dns] = {}

    async def open(self) -> Mapping[str, Dns]:
        """The name server answers when it returns; one that is not asked for any more is ended. Raises Missing."""
        if self._listen is None:
            await stop(self._children)
        else:
            self._server = KeptNameServer(self._children, self._directory, self._listen, self._networks)
            internal = InternalDns(self._server.table, self._server)
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

    def _open_zones(self) -> None:
        # dnspython's client takes a while to import: a server without zones is not to wait for it.
        from rota.adapters.dns.rfc2136 import ZoneDns

        for settings in self._settings:
            zone = ZoneDns(settings, self._children.data_dir_id)
            zone.open()
            self._zones.append(zone)
            self.views[zone.name] = zone
