"""A provider of lexicon's interface that keeps one zone in memory, with the habits of real ones: TXT in quotes, IPv6
written in full, a shortest TTL, filters that are ignored. Used by tests; ``hosted_zone`` has lexicon know it."""

from __future__ import annotations

import ipaddress
import sys
import threading
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from lexicon.interfaces import Provider

from rota.adapters.dns.settings import HostedSettings
from rota.testing.zones import ZONE

NAME = "rotatest"
SHORTEST_TTL = 60


class HostedServer:
    """What the provider has: (type, full name, content). ``failure`` is what it says to every call while not empty;
    while ``answers`` is clear it says nothing at all. ``calls`` are the changes, in order."""

    def __init__(self) -> None:
        self.records: list[tuple[str, str, str]] = [
            ("A", f"foreign.{ZONE}", "192.0.2.1"),
            ("CNAME", f"alias.{ZONE}", f"foreign.{ZONE}"),
        ]
        self.calls: list[tuple[str, str, str]] = []
        self.failure = ""
        self.answers = threading.Event()
        self.answers.set()

    def settings(self, **changes: Any) -> HostedSettings:
        given = {"zone": ZONE, "provider": NAME, "options": {"auth_token": "good"}, "ttl": 1, "propagation": 0}
        return HostedSettings.model_validate(given | changes)

    def texts(self, name: str, kind: str = "A") -> list[str]:
        return sorted(content for of, full, content in self.records if (of, full) == (kind, f"{name}.{ZONE}"))


@contextmanager
def hosted_zone() -> Iterator[HostedServer]:
    server = HostedServer()

    class InMemory(Provider):
        @staticmethod
        def get_nameservers() -> list[str]:
            return []

        @staticmethod
        def configure_parser(parser: ArgumentParser) -> None:
            pass

        def authenticate(self) -> None:
            server.answers.wait()
            if server.failure or self._get_provider_option("auth_token") != "good":
                raise RuntimeError(server.failure or "the token is not known")

        def create_record(self, rtype: str, name: str, content: str) -> bool:
            server.calls.append(("create", rtype, content))
            server.records.append((rtype, self._full_name(name), content))
            return True

        def list_records(
            self, rtype: str | None = None, name: str | None = None, content: str | None = None
        ) -> list[dict[str, Any]]:
            return [
                {"type": of, "name": f"{full}.", "content": _as_shown(of, what), "ttl": SHORTEST_TTL, "id": str(at)}
                for at, (of, full, what) in enumerate(server.records)
            ]

        def update_record(self, *_: object, **__: object) -> bool:
            raise NotImplementedError

        def delete_record(
            self,
            identifier: str | None = None,
            rtype: str | None = None,
            name: str | None = None,
            content: str | None = None,
        ) -> bool:
            server.calls.append(("delete", str(rtype), str(content)))
            gone = (rtype, self._full_name(str(name)), content)
            server.records = [record for record in server.records if record != gone]
            return True

    module = ModuleType(f"lexicon._private.providers.{NAME}")
    module.Provider = InMemory  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    try:
        yield server
    finally:
        server.answers.set()
        del sys.modules[module.__name__]


def _as_shown(kind: str, content: str) -> str:
    if kind == "AAAA":
        return ipaddress.ip_address(content).exploded
    return f'"{content}"' if kind == "TXT" else content
