"""The watch on certificates: one notice when one is about to expire and one when it was renewed; run by the daemon.

That it was told is kept in the store, so that a new daemon does not say it again."""

from __future__ import annotations

import logging

from rota.core.expiry import Certificate, in_words, is_expiring
from rota.core.notice import Notice, Topic, server_notice
from rota.engine.journal import Journal
from rota.engine.loops import repeat
from rota.ports.certificates import Certificates
from rota.ports.clock import Clock
from rota.ports.store import Store

INTERVAL = 3600.0  # seconds between two looks

log = logging.getLogger(__name__)


class CertificateWatch:
    def __init__(self, certificates: Certificates, store: Store, clock: Clock, journal: Journal) -> None:
        self._certificates = certificates
        self._store = store
        self._clock = clock
        self._journal = journal

    async def run(self) -> None:
        """Until it is cancelled."""
        await repeat("the watch on certificates", self.look, INTERVAL)

    async def look(self) -> None:
        """One look, and what there is to be told of it. Raises StepFailed."""
        for certificate in await self._certificates.certificates():
            incident = f"certificate:{certificate.about}"
            was, expiring = await self._store.incident(incident), is_expiring(certificate, self._clock.now())
            if expiring != was:
                await self._journal.incident(incident, expiring, self._notice(certificate, expiring))

    def _notice(self, certificate: Certificate, expiring: bool) -> Notice:
        now = self._clock.now()
        topic = Topic.CERTIFICATE_EXPIRING if expiring else Topic.CERTIFICATE_RENEWED
        said = f"{in_words(certificate, now)}."
        log.warning("%s: %s", topic.value, said)
        return server_notice(topic, said, now)
