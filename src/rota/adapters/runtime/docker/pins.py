"""Which image each release was made of, durably: neither a tag nor a registry is believed about it later; kept by the
docker runtime's images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rota.adapters.durable import write_durably
from rota.adapters.inturn import InTurn
from rota.adapters.runtime.preparations import Key
from rota.core.errors import StepFailed

_HUB = "docker.io/"  # the engine leaves this out of what it tells


@dataclass(frozen=True)
class Pin:
    """``image`` is the engine's id; by one of ``digests``, ``repository@sha256:…``, a registry gives it again."""

    image: str
    digests: tuple[str, ...] = ()

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """From an answer of GET /images/{name}/json."""
        return cls(str(found["Id"]), tuple(found.get("RepoDigests") or ()))

    def reference_in(self, repository: str) -> str | None:
        """What that repository calls it; None when it never came from there. Another repository is not asked: the
        file's credentials are none of its business."""
        for digest in self.digests:
            if _short(digest.partition("@")[0]) == _short(repository):
                return digest
        return None


class Pins:
    """``turn`` is the thread that alone writes them; a change is seen once it is durable."""

    def __init__(self, path: Path, turn: InTurn) -> None:
        self._path = path
        self._turn = turn
        self._pins: Mapping[Key, Pin] = {}

    def open(self) -> None:
        """Raises StepFailed: to go on without would let a tag decide that has moved since."""
        try:
            kept = json.loads(self._path.read_bytes())
            self._pins = {_key(name): Pin(pin["image"], tuple(pin["digests"])) for name, pin in kept.items()}
        except FileNotFoundError:
            return
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StepFailed(
                f"{self._path} cannot be read ({error}), and it says which image each release is made of; "
                "put it back, or remove it to believe the engine's tags once"
            ) from error

    @property
    def keys(self) -> frozenset[Key]:
        return frozenset(self._pins)

    def of(self, key: Key) -> Pin | None:
        return self._pins.get(key)

    async def put(self, key: Key, pin: Pin) -> None:
        """Raises StepFailed when it cannot be written."""
        await self._turn.do(lambda: self._put(key, pin))

    async def drop(self, key: Key) -> None:
        """Raises StepFailed when it cannot be written."""
        await self._turn.do(lambda: self._drop(key))

    def _put(self, key: Key, pin: Pin) -> None:
        if self._pins.get(key) != pin:
            self._write({**self._pins, key: pin})

    def _drop(self, key: Key) -> None:
        if key in self._pins:
            self._write({other: pin for other, pin in self._pins.items() if other != key})

    def _write(self, pins: Mapping[Key, Pin]) -> None:
        content = {f"{app}:{release}": asdict(pin) for (app, release), pin in pins.items()}
        try:
            write_durably(self._path, json.dumps(content))
        except OSError as error:
            raise StepFailed(f"the image cannot be put on record in {self._path}: {error.strerror}") from error
        self._pins = pins


def _key(name: str) -> Key:
    app, _, release = name.rpartition(":")
    return app, int(release)


def _short(repository: str) -> str:
    return repository.removeprefix(_HUB).removeprefix("library/")
