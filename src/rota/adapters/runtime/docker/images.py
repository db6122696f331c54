"""The images of releases: pulled by the app's policy and pinned by a local tag; driven by the docker runtime.

What is done is said by the tag alone, which outlives everything: work that a crash interrupted has none and begins
anew. A registry's tag that moves later changes nothing, since containers are created from the pinned image's id."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.names import Names
from rota.core.container import Image, PullPolicy, Registry
from rota.core.errors import StepFailed
from rota.core.observation import Artefact, ArtefactState
from rota.ports.runtime import ReleaseOrder

_log = logging.getLogger(__name__)
_TOLD_EVERY = 5.0  # seconds between two lines about a pull


class Images:
    """``wake(app)`` is called at each change."""

    def __init__(self, client: Client, names: Names, wake: Callable[[str], None]) -> None:
        self._client = client
        self._names = names
        self._wake = wake
        self._known: dict[tuple[str, int], Artefact] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._platform = ("", "")

    @property
    def known(self) -> Mapping[tuple[str, int], Artefact]:
        return self._known

    async def look(self, platform: tuple[str, str]) -> None:
        """Which releases have their tag, and which have lost it; ``platform`` is the engine's (os, architecture).
        Raises EngineLost, Refused."""
        self._platform = platform
        before = {key for key, artefact in self._known.items() if artefact.state is ArtefactState.PREPARED}
        listed = await self._client.get("images/json", {"filters": json.dumps({"reference": [self._names.images]})})
        tags = [tag for image in listed for tag in image.get("RepoTags") or ()]
        found = {key for tag in tags if (key := self._names.release_of(tag)) is not None}
        for key in found - self._tasks.keys():
            self._set(key, Artefact(key[1], ArtefactState.PREPARED))
        for key in before - found - self._tasks.keys():
            _log.warning("the tag %s was removed behind rota's back", self._names.tag(*key))
            if self._known.pop(key, None) is not None:
                self._wake(key[0])

    async def close(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def prepare(self, order: ReleaseOrder) -> None:
        """Begins, unless it is done or under way; what has failed is tried again."""
        key = (order.app, order.release)
        known, task = self._known.get(key), self._tasks.get(key)
        if (task is not None and not task.done()) or (known is not None and known.state is ArtefactState.PREPARED):
            return
        self._set(key, Artefact(order.release, ArtefactState.PREPARING))
        task = self._tasks[key] = asyncio.create_task(self._make(order))
        task.add_done_callback(lambda ended: self._drop(key, ended))

    async def id_of(self, app: str, release: int) -> str | None:
        """The image that a release is pinned to; None when it has no tag. Raises EngineLost, Refused."""
        try:
            return str((await self._client.get(f"images/{self._names.tag(app, release)}/json"))["Id"])
        except Refused as refused:
            if refused.http_status != 404:
                raise
            return None

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        """Removes the tags of all other releases; an image goes with the last tag that anybody gave it. Raises
        StepFailed."""
        for key in [key for key in {*self._known, *self._tasks} if key[0] == app and key[1] not in keep_releases]:
            if (task := self._tasks.get(key)) is not None:
                task.cancel()
                await asyncio.wait([task])
            try:
                await self._client.delete(f"images/{self._names.tag(*key)}")
            except Refused as refused:
                if refused.http_status != 404:
                    raise StepFailed(f"the image of release {key[1]} of {app} stays: {refused.message}") from refused
            self._known.pop(key, None)

    def _drop(self, key: tuple[str, int], ended: asyncio.Task[None]) -> None:
        if self._tasks.get(key) is ended:  # not the one that was begun since
            del self._tasks[key]

    async def _make(self, order: ReleaseOrder) -> None:
        key = (order.app, order.release)
        try:
            image = order.spec.image
            if image is None:
                raise StepFailed("this server runs containers, and the file names no image; give image:")
            await self._fetch(image)
            found = await self._client.get(f"images/{image.reference}/json")
            self._refuse_other_platform(image, found)
            tag, _, release = self._names.tag(*key).rpartition(":")
            await self._client.post(f"images/{found['Id']}/tag", {"repo": tag, "tag": release})
            self._set(key, Artefact(order.release, ArtefactState.PREPARED))
        except EngineLost as lost:
            _log.warning("release %d of %s is not prepared yet: %s", order.release, order.app, lost)
            self._known.pop(key, None)  # asked for again, once the engine is back
            self._wake(order.app)
        except StepFailed as failure:
            _log.warning("release %d of %s cannot be prepared: %s", order.release, order.app, failure)
            self._set(key, Artefact(order.release, ArtefactState.FAILED, failure.message))

    async def _fetch(self, image: Image) -> None:
        """The image is on the engine, by the app's policy. Raises StepFailed."""
        if image.pull is PullPolicy.ALWAYS or not await self._is_there(image):
            if image.pull is PullPolicy.NEVER:
                raise StepFailed(
                    f"the image {image.reference} is not on this engine, and pull: never asks no registry; "
                    "docker load it, or change pull:"
                )
            await self._pull(image)

    async def _is_there(self, image: Image) -> bool:
        try:
            await self._client.get(f"images/{image.reference}/json")
        except Refused as refused:
            if refused.http_status != 404:
                raise
            return False
        return True

    async def _pull(self, image: Image) -> None:
        _log.info("pulling %s", image.reference)
        try:
            headers = _credentials(image.registry)
            params = {"fromImage": image.reference}
            async with self._client.stream("POST", "images/create", params, headers) as progress:
                told_at = asyncio.get_running_loop().time()
                async for line in progress:
                    if "error" in line:
                        raise Refused(500, str(line["error"]))
                    now = asyncio.get_running_loop().time()
                    if now - told_at >= _TOLD_EVERY:
                        told_at = now
                        _log.info("pulling %s: %s %s", image.reference, line.get("status"), line.get("progress", ""))
        except Refused as refused:
            raise StepFailed(
                f"the image {image.reference} cannot be pulled: {refused.message}; "
                "check image:, its registry: and the way there"
            ) from refused

    def _refuse_other_platform(self, image: Image, found: Mapping[str, Any]) -> None:
        its = (str(found.get("Os") or ""), str(found.get("Architecture") or ""))
        if its[1] and self._platform[1] and its != self._platform:
            raise StepFailed(
                f"the image {image.reference} is for {'/'.join(its)}, this engine runs {'/'.join(self._platform)}; "
                "build it for that, or name a digest that is"
            )

    def _set(self, key: tuple[str, int], artefact: Artefact) -> None:
        if self._known.get(key) != artefact:
            self._known[key] = artefact
            self._wake(key[0])


def _credentials(registry: Registry | None) -> dict[str, str]:
    if registry is None or registry.username is None:
        return {}
    said = {"username": registry.username, "password": registry.password or "", "serveraddress": registry.server or ""}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}
