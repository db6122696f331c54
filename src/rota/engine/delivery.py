"""Delivery: sends the letters of the outbox until each is taken or has been tried for long enough; run by the daemon.

A letter was written in the commit of the event that it tells of, and leaves the outbox after it was taken: it is sent
at least once, whatever ends the daemon in between."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from rota.core.errors import StepFailed
from rota.core.notice import Letter
from rota.engine.journal import Journal
from rota.ports.clock import Clock
from rota.ports.notifier import Notifier
from rota.ports.store import Store

FIRST_WAIT, LONGEST_WAIT = 2.0, 3600.0  # seconds between two tries; each wait is twice the one before
MOST_ATTEMPTS = 30  # about 20 hours
AT_ONCE = 8  # letters
STORE_AGAIN = 5.0  # seconds after which a store that could not be asked is asked again

log = logging.getLogger(__name__)


class Delivery:
    def __init__(self, store: Store, notifier: Notifier, clock: Clock, journal: Journal) -> None:
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._written = journal.letters_written
        self._written.set()

    async def run(self) -> None:
        """Until it is cancelled; what is not sent by then is the next daemon's."""
        while True:
            self._written.clear()
            try:
                until = await self._send_due()
            except StepFailed as error:
                log.warning("the outbox cannot be read or written: %s; trying again", error)
                until = self._clock.now() + STORE_AGAIN
            await self._rest(until)

    async def _send_due(self) -> float | None:
        """Sends what is due; returns when the next one is."""
        while due := await self._store.due_letters(self._clock.now(), AT_ONCE):
            for letter in due:
                await self._send(letter)
        return await self._store.next_letter()

    async def _send(self, letter: Letter) -> None:
        try:
            await self._notifier.send(letter.url, letter.notice.title, letter.notice.body)
        except StepFailed as error:
            await self._put_off(letter, str(error))
        else:
            await self._store.drop_letter(letter.number)

    async def _put_off(self, letter: Letter, reason: str) -> None:
        attempts = letter.attempts + 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(letter.attempts, 30))
        next_try = self._clock.now() + wait if attempts < MOST_ATTEMPTS else None
        after = "; tried again" if next_try is not None else "; given up"
        log.warning("the notice %r could not be sent: %s%s", letter.notice.title, reason, after)
        await self._store.put_off(replace(letter, attempts=attempts, next_try=next_try, failure=reason))

    async def _rest(self, until: float | None) -> None:
        """Until a letter is written, or the next one is due."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.now()) if until is not None else None):
                await self._written.wait()
        except TimeoutError:
            pass
