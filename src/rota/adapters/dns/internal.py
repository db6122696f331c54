"""Rota's own names: the table that the name server answers from, kept on disk; fulfils the Dns port.

The file is the truth: a daemon that starts goes on from it, and a name server that starts answers from it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from rota.adapters.dns.caches import Caches
from rota.adapters.durable import write_durably
from rota.core.errors import Missing, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address, DnsEntry, ObservedDns, Published

VIEW = "internal"
TTL = 1  # seconds: the shortest that every resolver keeps to
LONGEST_TTL = 5  # seconds

Entries = Mapping[ReplicaId, tuple[str, DnsEntry]]
_READ = TypeAdapter(dict[str, int | list[dict[str, str | int]]])


class NameServer(Protocol):
    async def load(self, version: int) -> None:
        """Returns once this version of the table is in force, or will be before any other is. Raises StepFailed."""
        ...


class InternalDns:
    """``open`` before the first call. Changes of one moment are one write."""

    def __init__(self, path: Path, server: NameServer, ttl: int = TTL) -> None:
        self._path = path
        self._server = server
        self._wanted: dict[ReplicaId, tuple[str, DnsEntry]] = {}
        self._some: Entries = {}
        """Of any table that may be in force: of more than one after a call that failed."""
        self._all: Entries = {}
        """Of every such table."""
        self._version = 0
        self._ttl = ttl
        self._caches = Caches(path.with_name("ttls.json"), ttl)
        self._writing = asyncio.Lock()

    async def open(self) -> None:
        """With the table that the last daemon left, or with an empty one. Raises Missing when it cannot be kept."""
        try:
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            if self._path.exists():
                await self._go_on(*_read(self._path.read_bytes()))
            else:
                await self._write(1, {})
                self._version = 1
        except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
            raise Missing(f"the name server's table {self._path} cannot be kept: {error}; move it away") from error

    async def observe(self, app: str, hosts: frozenset[str]) -> ObservedDns | None:
        shown = {
            name: Published(entry.address, sure=name in self._all)
            for name, (owner, entry) in self._some.items()
            if owner == app
        }
        return ObservedDns(shown, ttl=max(self._ttl, self._caches.longest))

    def on_change(self, wake: Callable[[str], None]) -> None:
        """Nobody else changes the table."""

    async def publish(self, app: str, entry: DnsEntry) -> None:
        self._wanted[entry.replica] = (app, entry)
        await self._bring_into_force()

    async def withdraw(self, app: str, replica: ReplicaId) -> None:
        self._wanted.pop(replica, None)
        await self._bring_into_force()

    async def _go_on(self, version: int, ttl: int, entries: Entries) -> None:
        """From the table that is there; with another TTL at once, while caches go on with the old one."""
        self._version, self._wanted = version, dict(entries)
        self._some = self._all = entries
        if ttl != self._ttl:
            self._caches.saw(ttl)
            self._version += 1
            await self._write(self._version, entries)

    async def _bring_into_force(self) -> None:
        """What is wanted now: whoever waits here while another writes may find its own change in force already."""
        async with self._writing:
            await asyncio.sleep(0)  # lets in what else is asked for at this moment
            entries, version = dict(self._wanted), self._version + 1
            if entries == self._some == self._all:
                return
            # From here on it may be in force, whatever becomes of the calls: a name server that starts reads the file.
            self._all = {name: entry for name, entry in self._all.items() if entries.get(name) == entry}
            self._some = {**self._some, **entries}
            self._version = version
            try:
                await self._write(version, entries)
            except OSError as error:
                raise StepFailed(f"the name server's table cannot be written: {error}") from error
            await self._server.load(version)
            self._some = self._all = entries

    async def _write(self, version: int, entries: Entries) -> None:
        replicas = [_written(app, entry) for app, entry in entries.values()]
        text = json.dumps({"version": version, "ttl": self._ttl, "replicas": replicas})
        await asyncio.to_thread(write_durably, self._path, text)


def _written(app: str, entry: DnsEntry) -> dict[str, str | int]:
    return {
        "app": app,
        "replica": entry.replica,
        "slot": entry.slot,
        "release": entry.release,
        "host": entry.address.host,
        "port": entry.address.port,
    }


def _read(text: bytes) -> tuple[int, int, dict[ReplicaId, tuple[str, DnsEntry]]]:
    read = _READ.validate_json(text)
    version, ttl, replicas = read["version"], read["ttl"], read["replicas"]
    if not isinstance(version, int) or not isinstance(ttl, int) or not isinstance(replicas, list):
        raise ValueError("it holds no table")
    return version, ttl, {entry.replica: (str(row["app"]), entry) for row in replicas for entry in [_entry(row)]}


def _entry(row: Mapping[str, str | int]) -> DnsEntry:
    address = Address(str(row["host"]), int(row["port"]))
    return DnsEntry(ReplicaId(str(row["replica"])), int(row["slot"]), int(row["release"]), address)
