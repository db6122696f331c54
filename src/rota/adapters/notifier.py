"""Notices by apprise, which knows mail, chats, web hooks and some hundred more by URL; fulfils the Notifier port.

Each letter is sent by a process of its own (courier), so that no address holds up another, and one that does not answer
can be given up for good: what is ended takes no letter any more."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from typing import Any

from rota.core.errors import StepFailed, UsageError
from rota.core.redaction import shown

PATIENCE = 60.0  # seconds: apprise's own timeouts (15 s to connect, and to read, for mail) come first
CHECK_PATIENCE = 10.0  # seconds: loading apprise takes half a second, on a busy machine a few
_COURIER = (sys.executable, "-m", "rota.adapters.courier")

log = logging.getLogger(__name__)


class AppriseNotifier:
    def __init__(self, patience: float = PATIENCE, check_patience: float = CHECK_PATIENCE) -> None:
        self._patience = patience
        self._check_patience = check_patience
        self._known: set[str] = set()

    async def check(self, *urls: str) -> None:
        asked = [url for url in urls if url not in self._known]
        if not asked:
            return
        try:
            async with asyncio.timeout(self._check_patience):
                answer = await _courier({"urls": asked})
        except (TimeoutError, StepFailed) as error:
            # The machine's trouble is no reason to refuse a deploy; a wrong address shows when it is written to.
            log.warning("addresses of notices could not be checked: %s", error or "that took too long")
            return
        if "refused" in answer:
            raise UsageError(answer["refused"])
        self._known.update(asked)

    async def send(self, url: str, title: str, body: str, name: str) -> None:
        try:
            async with asyncio.timeout(self._patience):
                answer = await _courier({"url": url, "title": title, "body": body, "name": name})
        except TimeoutError:
            raise StepFailed(f"{shown(url)} did not answer within {self._patience:g} s") from None
        if "failed" in answer:
            raise StepFailed(answer["failed"])


async def _courier(order: dict[str, Any]) -> dict[str, str]:
    """The order carried out; whoever is not waited for to the end is ended. Raises StepFailed."""
    pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    try:
        # What goes wrong in there is not shown: its words may hold the address.
        process = await asyncio.create_subprocess_exec(*_COURIER, stdin=pipe, stdout=pipe, stderr=nowhere)
    except OSError as error:
        raise StepFailed(f"no process can be started to send a notice: {error.strerror}") from error
    try:
        said, _ = await process.communicate(json.dumps(order | {"parent": os.getpid()}).encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        raise StepFailed(f"the process that sends notices ended with code {process.returncode}")
    answer: dict[str, str] = json.loads(said.splitlines()[-1])
    return answer
