"""The sweep of uploaded sources: those that no release names any more leave the disk; run by the daemon."""

from __future__ import annotations

from rota.engine.loops import repeat
from rota.engine.supervisor import Supervisor
from rota.ports.source import Sources

INTERVAL = 600.0  # seconds between two sweeps


class SourceSweep:
    def __init__(self, sources: Sources, supervisor: Supervisor) -> None:
        self._sources = sources
        self._supervisor = supervisor

    async def run(self) -> None:
        """Until it is cancelled."""
        await repeat("the sweep of sources", self.sweep, INTERVAL)

    async def sweep(self) -> None:
        """A release that was lost with its files is made again of its source: all that are kept need theirs. Raises
        StepFailed."""
        releases = (release for app in self._supervisor.apps.values() for release in app.state.releases.values())
        await self._sources.keep_only(frozenset(release.source for release in releases if release.source is not None))
