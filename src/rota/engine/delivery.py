"""Delivery: sends the letters of the outbox until each is taken or has been tried for long enough; run by the daemon.

A letter was written in the commit of the event that it tells of, and leaves the outbox after it was taken: it is sent
at least once, whatever ends the daemon in between. To one address they go one after the other, to several at once."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

from rota.core.errors import StepFailed
from rota.core.notice import Letter
from rota.core.redaction import shown
from rota.engine.journal import Journal
from rota.ports.clock import Clock
from rota.ports.notifier import Notifier
from rota.ports.store import Store

FIRST_WAIT, LONGEST_WAIT = 2.0, 3600.0  # seconds between two tries; each wait is twice the one before
MOST_ATTEMPTS = 30  # about 20 hours
AT_ONCE = 4  # letters: each is a process for a second or two
BROKEN_AGAIN = 60.0  # seconds after which a delivery that broke by a bug is begun again
STORE_AGAIN = 5.0  # seconds after which a store that could not be asked is asked again

log = logging.getLogger(__name__)


class Delivery:
    def __init__(self, store: Store, notifier: Notifier, clock: Clock, journal: Journal) -> None:
        self._store = store
        self._notifier = notifier
        self._clock = clock
        self._woken = journal.letters_written
        self._woken.set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[str, asyncio.Task[None]] = {}
        self._taken: set[str] = set()  # by name, and not dropped yet: numbers are used again

    async def run(self) -> None:
        """Until it is cancelled; what is not sent by then is the next daemon's."""
        try:
            while True:
                self._woken.clear()
                await self._rest(await self._begin_due())
        finally:
            await self._give_up()

    async def _begin_due(self) -> float | None:
        """Begins with what is due at each address that is free; returns when to look again at the latest."""
        now = self._clock.now()
        try:
            for letter in await self._store.due_letters(now):
                if letter.url not in self._under_way:
                    self._begin(letter)
            return await self._store.next_letter(now)
        except StepFailed as error:
            log.warning("the outbox cannot be read: %s; trying again", error)
            return now + STORE_AGAIN

    def _begin(self, letter: Letter) -> None:
        task = asyncio.create_task(self._deliver(letter))
        self._under_way[letter.url] = task
        task.add_done_callback(lambda done: self._ended(letter.url, done))

    def _ended(self, url: str, task: asyncio.Task[None]) -> None:
        del self._under_way[url]
        if task.cancelled() or task.exception() is None:
            self._woken.set()  # for the next one to that address
            return
        log.error("the delivery of a notice broke; trying again", exc_info=task.exception())
        asyncio.get_running_loop().call_later(BROKEN_AGAIN, self._woken.set)  # at once, it would break at once

    async def _deliver(self, letter: Letter) -> None:
        async with self._room:
            failure = await self._send(letter)
        try:
            if failure is not None:
                await self._put_off(letter, failure)
                return
            await self._store.drop_letter(letter.number)
            log.info("the notice %r was taken by %s", letter.notice.title, shown(letter.url))
            self._taken.discard(letter.name)
        except StepFailed as error:
            log.warning("the outbox cannot be written: %s; trying again", error)
            await asyncio.sleep(STORE_AGAIN)

    async def _send(self, letter: Letter) -> str | None:
        """Why it was not taken; None if it was, now or before it could be dropped."""
        if letter.name in self._taken:
            return None
        try:
            await self._notifier.send(letter.url, letter.notice.title, letter.notice.body, letter.name)
        except StepFailed as error:
            return str(error)
        self._taken.add(letter.name)
        return None

    async def _put_off(self, letter: Letter, reason: str) -> None:
        attempts = letter.attempts + 1
        wait = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(letter.attempts, 30))
        next_try = self._clock.now() + wait if attempts < MOST_ATTEMPTS else None
        after = "; tried again" if next_try is not None else "; given up"
        log.warning("the notice %r could not be sent: %s%s", letter.notice.title, reason, after)
        await self._store.put_off(replace(letter, attempts=attempts, next_try=next_try, failure=reason))

    async def _rest(self, until: float | None) -> None:
        """Until a letter is written, an address is free, or the next letter is due."""
        try:
            async with asyncio.timeout(max(0.0, until - self._clock.now()) if until is not None else None):
                await self._woken.wait()
        except TimeoutError:
            pass

    async def _give_up(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
