"""The images of releases: pulled by the app's policy, pinned by id and digest, kept by a local tag; driven by the
docker runtime.

A release's reference is looked up once; from then on its pin alone says which image it is, and the tag keeps that one
from being pruned. An image that is gone all the same is had again by its digest, or not at all."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.failures import disk_full
from rota.adapters.runtime.docker.healthcheck import check_of
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.pins import Pin, Pins
from rota.adapters.runtime.docker.platforms import Platform, of_image, runs
from rota.adapters.runtime.docker.pulls import Pull
from rota.adapters.runtime.preparations import Key, Preparations
from rota.core.container import Image, PullPolicy, Registry
from rota.core.errors import StartFailed, StepFailed
from rota.core.healthcheck import ImageCheck
from rota.core.observation import Artefact, ArtefactState
from rota.ports.runtime import ReleaseOrder

_log = logging.getLogger(__name__)
_TOLD_EVERY = 5.0  # seconds between two words about a pull


class Images:
    """``wake(app)`` is called at each change."""

    def __init__(self, client: Client, names: Names, pins: Pins, wake: Callable[[str], None]) -> None:
        self._client = client
        self._names = names
        self._pins = pins
        self._preparations = Preparations(self._make, wake)
        self._checks: dict[str, ImageCheck | None] = {}
        self._platform: Platform = ("", "")
        self._looking = asyncio.Lock()  # what is being forgotten must not be found once more

    @property
    def known(self) -> Mapping[Key, Artefact]:
        return self._preparations.known

    async def look(self, platform: Platform) -> None:
        """Which releases have their image, and which have lost it; ``platform`` is the engine's. Raises
        EngineLost, Refused, and StepFailed where a pin cannot be written."""
        self._platform = platform
        async with self._looking:
            tagged = await self._tagged()
            for key in tagged.keys() - self._pins.keys - self._preparations.under_way:  # an earlier version's
                if (found := await self._inspected(tagged[key])) is not None:
                    await self._pins.put(key, Pin.of(found))
            for key in self._pins.keys - self._preparations.under_way:
                await self._look_at(key, tagged.get(key))

    async def close(self) -> None:
        await self._preparations.close()

    def prepare(self, order: ReleaseOrder) -> None:
        """Begins, unless it is done or under way; what has failed is tried again."""
        known = self.known.get((order.app, order.release))
        if known is None or known.state is not ArtefactState.PREPARED:
            self._preparations.begin(order)

    async def image_of(self, order: ReleaseOrder) -> Mapping[str, Any]:
        """What the engine says of the image that a release is pinned to, had again if somebody has removed it a moment
        ago. Raises StartFailed when that cannot be; EngineLost, Refused."""
        key = (order.app, order.release)
        pin = self._pins.of(key)
        if pin is None:
            raise StartFailed(f"the files of release {order.release} of {order.app} are not there; deploy again")
        found = await self._inspected(pin.image)
        if found is None:
            await asyncio.wait([self._preparations.begin(order)])
            known, pin = self.known.get(key), self._pins.of(key)
            if known is not None and known.state is ArtefactState.FAILED:
                raise StartFailed(known.reason)
            found = await self._inspected(pin.image) if known is not None and pin is not None else None
            if found is None:
                raise EngineLost(f"the engine was lost while the image of release {order.release} was fetched")
        return found

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        """Removes the tags of all other releases; an image goes with the last tag that anybody gave it. Raises
        StepFailed."""
        async with self._looking:
            every = {*self.known, *self._preparations.under_way, *self._pins.keys}
            for key in [key for key in every if key[0] == app and key[1] not in keep_releases]:
                await self._forget(key)

    async def _forget(self, key: Key) -> None:
        await self._preparations.cancel(key)
        try:
            await self._client.delete(f"images/{self._names.tag(*key)}")
        except Refused as refused:
            if refused.http_status != 404:
                raise StepFailed(f"the image of release {key[1]} of {key[0]} stays: {refused.message}") from refused
        await self._pins.drop(key)
        self._preparations.forget(key)

    async def _tagged(self) -> dict[Key, str]:
        """The image that each release's tag leads to."""
        listed = await self._client.get("images/json", {"filters": json.dumps({"reference": [self._names.images]})})
        tags = ((tag, str(image["Id"])) for image in listed for tag in image.get("RepoTags") or ())
        return {key: image for tag, image in tags if (key := self._names.release_of(tag)) is not None}

    async def _look_at(self, key: Key, tagged: str | None) -> None:
        pin, known = self._pins.of(key), self.known.get(key)
        if pin is None:
            return
        if tagged != pin.image:
            there = await self._tag(key, pin.image)
            if known is None or known.state is ArtefactState.PREPARED:  # it is said once
                rest = "put back" if there else "and its image is gone"
                _log.warning("the tag %s was removed or moved behind rota's back: %s", self._names.tag(*key), rest)
            if not there:
                if known is None or known.state is not ArtefactState.FAILED:  # that says why
                    self._preparations.set(key, Artefact(key[1], ArtefactState.LOST, check=self._checks.get(pin.image)))
                return
        if pin.image not in self._checks and (found := await self._inspected(pin.image)) is not None:
            self._note_check(found)
        self._preparations.set(key, Artefact(key[1], ArtefactState.PREPARED, check=self._checks.get(pin.image)))

    def _note_check(self, found: Mapping[str, Any]) -> ImageCheck | None:
        """What an image says of its health never changes: it is looked at once."""
        check = self._checks[str(found["Id"])] = check_of(found)
        return check

    async def _tag(self, key: Key, image: str) -> bool:
        """Whether it could be tagged: it is on the engine."""
        tag, _, release = self._names.tag(*key).rpartition(":")
        try:
            await self._client.post(f"images/{image}/tag", {"repo": tag, "tag": release})
        except Refused as refused:
            if refused.http_status != 404:
                raise
            return False
        return True

    async def _make(self, order: ReleaseOrder) -> None:
        key = (order.app, order.release)
        try:
            image = order.spec.image
            if image is None:
                raise StepFailed("this server runs containers, and the file names no image; give image:")
            pin = self._pins.of(key)
            found = await (self._fetched(key, image) if pin is None else self._had_again(key, image, pin))
            self._refuse_other_platform(image, found)
            await self._pins.put(key, Pin.of(found))
            if not await self._tag(key, str(found["Id"])):
                raise StepFailed(f"the image {image.reference} was removed while it was being prepared; deploy again")
            self._preparations.set(key, Artefact(order.release, ArtefactState.PREPARED, check=self._note_check(found)))
        except EngineLost as lost:
            _log.warning("release %d of %s is not prepared yet: %s", order.release, order.app, lost)
            self._preparations.forget(key)  # asked for again, once the engine is back
        except StepFailed as failure:
            full = disk_full(failure.message) if isinstance(failure, Refused) else ""  # others have said it
            _log.warning("release %d of %s cannot be prepared: %s", order.release, order.app, failure)
            self._preparations.set(key, Artefact(order.release, ArtefactState.FAILED, full or failure.message))

    async def _fetched(self, key: Key, image: Image) -> Mapping[str, Any]:
        """What the reference leads to now, by the app's policy. Raises StepFailed."""
        found = None if image.pull is PullPolicy.ALWAYS else await self._inspected(image.reference)
        if found is None:
            if image.pull is PullPolicy.NEVER:
                raise StepFailed(
                    f"the image {image.reference} is not on this engine, and pull: never asks no registry; "
                    "docker load it, or change pull:"
                )
            try:
                found = await self._pulled(key, image.reference, image.registry)
            except Refused as refused:
                why = disk_full(refused.message) or f"{refused.message}; check image:, its registry: and the way there"
                raise StepFailed(f"the image {image.reference} cannot be pulled: {why}") from refused
        return found

    async def _had_again(self, key: Key, image: Image, pin: Pin) -> Mapping[str, Any]:
        """The image of a release that was prepared before: this one, and no other that is called the same by now.
        Raises StepFailed."""
        found = await self._inspected(pin.image)
        if found is not None:
            return found
        reference = pin.reference_in(image.repository)
        if image.pull is PullPolicy.NEVER:
            why = "pull: never asks no registry for it"
        elif reference is None:
            why = "it came from no registry"
        else:
            try:
                return await self._pulled(key, reference, image.registry)
            except Refused as refused:
                why = f"{reference} cannot be pulled: {disk_full(refused.message) or refused.message}"
        raise StepFailed(
            f"the image of release {key[1]} ({pin.image[:19]}) is gone from this engine, and {why}; "
            "docker load it, or deploy again with another tag"
        )

    async def _inspected(self, name: str) -> Mapping[str, Any] | None:
        """None when it is not on the engine."""
        try:
            found: Mapping[str, Any] = await self._client.get(f"images/{name}/json")
        except Refused as refused:
            if refused.http_status != 404:
                raise
            return None
        return found

    async def _pulled(self, key: Key, reference: str, registry: Registry | None) -> Mapping[str, Any]:
        """Raises Refused, EngineLost."""
        pull, params = Pull(reference), {"fromImage": reference}
        self._get_on(key, pull)
        async with self._client.stream("POST", "images/create", params, _credentials(registry)) as progress:
            told_at = asyncio.get_running_loop().time()
            async for line in progress:
                if "error" in line:
                    raise Refused(500, str(line["error"]))
                pull.add(line)
                now = asyncio.get_running_loop().time()
                if now - told_at >= _TOLD_EVERY:
                    told_at = now
                    self._get_on(key, pull)
        return dict(await self._client.get(f"images/{reference}/json"))

    def _get_on(self, key: Key, pull: Pull) -> None:
        _log.info("%s", pull.said)
        self._preparations.set(key, Artefact(key[1], ArtefactState.PREPARING, progress=pull.said))

    def _refuse_other_platform(self, image: Image, found: Mapping[str, Any]) -> None:
        its = of_image(found)
        if not runs(self._platform, its):
            raise StepFailed(
                f"the image {image.reference} is for {'/'.join(its)}, this engine runs {'/'.join(self._platform)}; "
                "build it for that, or name a digest that is"
            )


def _credentials(registry: Registry | None) -> dict[str, str]:
    if registry is None or registry.username is None:
        return {}
    said = {"username": registry.username, "password": registry.password or "", "serveraddress": registry.server or ""}
    return {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(said).encode()).decode()}
