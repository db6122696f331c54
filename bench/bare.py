"""A replica's own times, without rota's engine, balancer and store: started by a keeper, asked, stopped, removed.

Used by rollout_overhead, which takes them off a rollout's time."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from rota.adapters.keeper.client import ChildOrder, Children
from rota.adapters.prober.prober import SocketProber
from rota.adapters.runtime.process import cgroups
from rota.core.healthcheck import Check
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.testing.server import free_port

ACCEPT_POLL = 0.005  # seconds between two tries of a connection
PATIENCE = 30.0
_NOBODY = ReplicaId("bare-0")
_PROBER = SocketProber(lambda _: None)


@dataclass(frozen=True)
class OwnTimes:
    """Of one replica, in seconds. Nothing is open at the stop, so that there is no drain."""

    start: float
    readiness: float
    stop: float
    remove: float

    @property
    def total(self) -> float:
        return self.start + self.readiness + self.stop + self.remove


class BareReplicas:
    """``async with BareReplicas(argv, directory, check) as bare: times = await bare.one()``. The keeper is one of its
    own, in a temporary directory."""

    def __init__(self, argv: list[str], directory: Path, check: Check) -> None:
        self._argv, self._directory, self._check = argv, directory, check
        self._data_dir = Path(tempfile.mkdtemp(prefix="rota-"))
        self._children = Children(self._data_dir)
        self._count = 0

    async def __aenter__(self) -> Self:
        await self._children.open()
        name = f"rota-{self._children.data_dir_id[:12]}"
        self._cgroups = cgroups.find(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"), name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in list(self._children.known.values()):
            await self._children.signal(child.name, "KILL", tree=True)
            await self._children.until(child.name, lambda seen: seen is None or not seen.alive, PATIENCE)
            await self._children.forget(child.name)
            await self._cgroups.remove(child.cgroups)
        await self._children.shutdown()
        await self._children.close()
        shutil.rmtree(self._data_dir)

    async def one(self) -> OwnTimes:
        """One life. Raises TimeoutError when the replica does not become ready or does not end."""
        self._count += 1
        name, port = f"bare-{self._count}", free_port()
        files = self._data_dir / name
        (files / "tmp").mkdir(parents=True)
        order = ChildOrder(
            name=name,
            argv=self._argv,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PORT": str(port), "ROTA_REPLICA": name},
            cwd=str(self._directory),
            log=str(self._data_dir / f"{name}.log"),
            cgroups=self._cgroups.create(name),
        )
        marks = [time.monotonic()]
        await self._children.start(order)
        await accepting(Address("127.0.0.1", port))
        marks.append(time.monotonic())
        await ready(Address("127.0.0.1", port), self._check)
        marks.append(time.monotonic())
        await self._children.signal(name, "TERM")
        await self._children.until(name, lambda seen: seen is not None and not seen.alive, PATIENCE)
        marks.append(time.monotonic())
        await self._children.forget(name)
        await self._cgroups.remove(order.cgroups)
        await asyncio.to_thread(shutil.rmtree, files)
        marks.append(time.monotonic())
        return OwnTimes(*(after - before for before, after in pairwise(marks)))


async def accepting(address: Address, poll: float = ACCEPT_POLL, patience: float = PATIENCE) -> None:
    """Until a connection is accepted. Raises TimeoutError."""
    async with asyncio.timeout(patience):
        while not (await _PROBER.accepts(_NOBODY, address, 1.0)).passed:
            await asyncio.sleep(poll)


async def ready(address: Address, check: Check) -> None:
    """Until ``rise`` checks in a row have passed, ``start_interval`` apart (S3). Raises TimeoutError."""
    passes = 0
    async with asyncio.timeout(PATIENCE):
        while True:
            result = await _PROBER.healthy(_NOBODY, address, check, "hello.localhost")
            passes = passes + 1 if result.passed else 0
            if passes >= check.rise:
                return
            await asyncio.sleep(check.start_interval)
