"""What an engine could not remove of this server's containers: they are Dead, run nothing and are nobody's replicas any
more. Each is tried again with a growing wait, and named until it is gone; told by the table.

Docker 20.10 leaves the mount of a container's files behind at times, when it is restarted while that one ends: "device
or resource busy" is the answer to every removal from then on, until somebody or the next boot takes the mount away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Set
from dataclasses import dataclass

from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.inspection import Inspection
from rota.core.observation import Stranger

_log = logging.getLogger(__name__)
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 300.0  # seconds


@dataclass
class _Remnant:
    name: str
    app: str
    trying: asyncio.Task[None] | None = None
    refusal: str = ""
    """Empty before the first try: every container is Dead for a moment while it is removed."""


class Remnants:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._left: dict[str, _Remnant] = {}

    @property
    def known(self) -> Set[str]:
        return self._left.keys()

    @property
    def strangers(self) -> tuple[Stranger, ...]:
        return tuple(Stranger(one.app, _said(one)) for one in self._left.values() if one.refusal)

    def found(self, seen: Inspection) -> None:
        """It is Dead; said again with each look."""
        if seen.id not in self._left:
            remnant = self._left[seen.id] = _Remnant(seen.name, seen.labels.get("rota.app", ""))
            remnant.trying = asyncio.create_task(self._try(seen.id, remnant))

    def gone(self, container: str) -> None:
        remnant = self._left.pop(container, None)
        if remnant is None:
            return
        if remnant.refusal:
            _log.info("what was left of container %s is gone", remnant.name)
        if remnant.trying is not None and remnant.trying is not asyncio.current_task():
            remnant.trying.cancel()

    async def close(self) -> None:
        trying = [one.trying for one in self._left.values() if one.trying is not None]
        for task in trying:
            task.cancel()
        await asyncio.gather(*trying, return_exceptions=True)

    async def _try(self, container: str, remnant: _Remnant) -> None:
        wait = _FIRST_WAIT
        while True:
            await asyncio.sleep(wait)
            try:
                await self._client.delete(f"containers/{container}", {"v": 1})
            except EngineLost:
                continue  # that says nothing of the container
            except Refused as refused:
                if refused.http_status == 404:
                    break
                if not remnant.refusal:
                    _log.warning("%s", _said(_Remnant(remnant.name, remnant.app, refusal=refused.message)))
                remnant.refusal = refused.message
                wait = min(_LONGEST_WAIT, wait * 2)
            else:
                break
        self.gone(container)


def _said(remnant: _Remnant) -> str:
    return (
        f"container {remnant.name} has ended, and the engine cannot remove what is left of it ({remnant.refusal}); it "
        "is tried again and nothing waits for it; a mount that is in the way is taken off with umount -l or a reboot"
    )
