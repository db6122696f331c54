"""The watch on the disk: one notice when it gets short and one when that is over; run by the daemon.

That it is short is kept in the store, so that a new daemon does not say it again."""

from __future__ import annotations

import logging

from rota.core.notice import Notice, Topic, server_notice
from rota.core.shortage import in_words, is_short
from rota.engine.journal import Journal
from rota.engine.loops import repeat
from rota.ports.clock import Clock
from rota.ports.disk import Disk
from rota.ports.store import Store

INTERVAL = 60.0  # seconds between two looks
INCIDENT = "disk-short"

log = logging.getLogger(__name__)


class DiskWatch:
    def __init__(self, disk: Disk, store: Store, clock: Clock, journal: Journal) -> None:
        self._disk = disk
        self._store = store
        self._clock = clock
        self._journal = journal

    async def run(self) -> None:
        """Until it is cancelled."""
        await repeat("the watch on the disk", self.look, INTERVAL)

    async def look(self) -> None:
        """One look, and what there is to be told of it. Raises StepFailed."""
        free, total = self._disk.room()
        was = await self._store.incident(INCIDENT)
        short = is_short(free, total, was=was)
        if short and not was:
            said = f"{in_words(free, total)} on the disk of the data directory: releases, logs and the store need it."
            await self._journal.incident(INCIDENT, True, self._notice(Topic.DISK_SHORT, said))
        elif was and not short:
            await self._journal.incident(INCIDENT, False, self._notice(Topic.DISK_FREE, f"{in_words(free, total)}."))

    def _notice(self, topic: Topic, said: str) -> Notice:
        log.warning("%s: %s", topic.value, said)
        return server_notice(topic, said, self._clock.now())
