"""Notices by apprise, which knows mail, chats, web hooks and some hundred more by URL; fulfils the Notifier port.

apprise blocks and takes half a second to load: it is loaded at the first use, and used in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from rota.core.errors import StepFailed, UsageError
from rota.core.redaction import shown

if TYPE_CHECKING:
    from apprise import NotifyBase

PATIENCE = 60.0  # seconds: apprise's own timeouts (15 s to connect, and to read, for mail) come first
_LINE = re.compile(r"^\S+ \S+ - (WARNING|ERROR|DEBUG) - (.*)$")
_CAUSE = "Socket Exception: "  # the one line for debugging that says why, and holds no secret


class AppriseNotifier:
    def __init__(self) -> None:
        # One thread: what apprise logs, the only place where it gives its reasons, is then of one letter.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rota-notify")

    async def check(self, url: str) -> None:
        await self._run(_service, url)

    async def send(self, url: str, title: str, body: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE):
                await self._run(_send, url, title, body)
        except TimeoutError:
            raise StepFailed(f"{shown(url)} did not answer within {PATIENCE:g} s") from None
        except UsageError as error:
            raise StepFailed(str(error)) from error

    async def close(self) -> None:
        """What is under way may still be sent; it stays in the outbox, and is sent again."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run(self, call: Callable[..., object], *given: str) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, call, *given)


def _service(url: str) -> NotifyBase:
    import apprise

    logging.getLogger("apprise").propagate = False  # its reasons are said once, without secrets, by us
    with apprise.LogCapture(level=logging.ERROR):  # type: ignore[no-untyped-call]
        service = apprise.Apprise.instantiate(url)
    if not isinstance(service, apprise.NotifyBase):
        raise UsageError(
            f"{shown(url)} is not an address that notices can be sent to; write it as mailto://…, json://… or another "
            "of apprise's URLs"
        )
    return service


def _send(url: str, title: str, body: str) -> None:
    import apprise

    service = _service(url)
    with apprise.LogCapture(level=logging.DEBUG) as log:  # type: ignore[no-untyped-call]
        try:
            taken = service.notify(body=body, title=title, body_format=apprise.NotifyFormat.TEXT)
        except TypeError as error:  # its word for a notice without any text
            raise StepFailed(f"{shown(url)}: {error}") from error
        said = log.getvalue()
    if not taken:
        raise StepFailed(f"{shown(url)}: {_reason(said) or 'it was not taken'}")


def _reason(log: str) -> str:
    """What apprise says of a failure, in one line."""
    found = [match for match in map(_LINE.match, log.splitlines()) if match is not None]
    said = [match[2] for match in found if match[1] != "DEBUG" or match[2].startswith(_CAUSE)]
    return "; ".join(text.removeprefix(_CAUSE).rstrip(".") for text in said)[:500]
