"""The keeper's children as the daemon knows them: a mirror kept by its event stream, and requests; used by the
process runtime and by whatever else has the keeper start a process (HAProxy)."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rota.adapters.keeper.launch import KeeperLost, ensure_keeper
from rota.core.errors import StepFailed

_log = logging.getLogger(__name__)
_AGAIN = (0.0, 0.05, 0.2, 1.0)


class Refused(StepFailed):
    """The keeper said no; ``reason`` is its code (unknown, alive, exec-failed, disk, denied, …)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Child:
    """One child as the keeper told it last. ``state`` is intended, running, exited or failed; ``exit_code`` and
    ``signal`` are both None while it runs and when nobody could see its end. Moments are RFC 3339 by the wall clock."""

    name: str
    state: str
    argv: tuple[str, ...] = ()
    log: str | None = None
    cgroups: tuple[str, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    listen: Mapping[str, str] = field(default_factory=dict)
    pid: int | None = None
    start_ticks: int | None = None
    boot_id: str | None = None
    started_at: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    exited_at: str | None = None
    signalled: int | None = None
    oom_hint: bool = False
    restarts: int = 0
    error: str | None = None
    runs: Sequence[Mapping[str, Any]] = ()

    @property
    def alive(self) -> bool:
        return self.state in ("intended", "running")

    @property
    def run(self) -> str:
        """What names its present run for ever."""
        return f"{self.boot_id}/{self.pid}/{self.start_ticks}"

    @classmethod
    def told(cls, record: Mapping[str, Any]) -> Self:
        """From the keeper's JSON; keys of a later keeper are let go."""
        known = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "argv": tuple(record["argv"]), "cgroups": tuple(record.get("cgroups", ()))})


@dataclass(frozen=True)
class ChildOrder:
    """A process to start; ``restart``: the keeper starts it again whenever it ends; ``listen``: places by the variables
    that tell it of sockets there, in which connections wait meanwhile (``fd@7``)."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str | None = None
    log: str | None = None
    cgroups: Sequence[str] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    restart: bool = False
    listen: Mapping[str, str] = field(default_factory=dict)


class Children:
    """Open between ``open`` and ``close``; in between a keeper that is lost is started again and found again.

    Requests raise KeeperLost while there is none, and Refused with the keeper's reason. One connection carries the
    requests and the events, so that whoever has an answer finds it in the mirror as well."""

    def __init__(self, data_dir: Path, launch: Sequence[str] | None = None, patience: float = 10.0) -> None:
        """``launch`` replaces the command that starts a keeper; ``patience`` is the time in seconds that one may
        take to come up, or to answer."""
        self.data_dir = data_dir
        self.boot_id = ""
        self.data_dir_id = ""
        self._launch = launch
        self._patience = patience
        self._mirror: dict[str, Child] = {}
        self._on_change: list[Callable[[Child], None]] = []
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._connected = asyncio.Event()
        self._changes: list[asyncio.Future[None]] = []
        self._leaving = False
        self.keeper_pid: int | None = None
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Returns with the mirror complete. Raises KeeperLost when there is no keeper and none can be started."""
        if self._task is None:
            reader = await self._connect()
            self._task = asyncio.create_task(self._stay_connected(reader))

    async def close(self) -> None:
        """Lets go of the keeper, which goes on."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        self._disconnect()

    @property
    def known(self) -> Mapping[str, Child]:
        """All children by name. Raises KeeperLost while the keeper does not answer."""
        if not self._connected.is_set():
            raise KeeperLost("the keeper does not answer; it is being started again")
        return self._mirror

    async def there(self) -> Mapping[str, Child]:
        """The same, once the keeper answers. Raises KeeperLost when it does not in time."""
        try:
            async with asyncio.timeout(self._patience):
                await self._connected.wait()
        except TimeoutError:
            raise self._silent() from None
        return self._mirror

    def on_change(self, act: Callable[[Child], None]) -> None:
        """Calls ``act`` at each event, and for what is found to have changed after a loss of the keeper."""
        self._on_change.append(act)

    async def start(self, order: ChildOrder) -> Child:
        """Starts it, unless it lives; returns once its program runs."""
        child = {**vars(order), "argv": list(order.argv), "cgroups": list(order.cgroups), "listen": dict(order.listen)}
        return Child.told((await self._request("start", child=child))["child"])

    async def restart(self, name: str, **changes: Any) -> Child:
        """A new run of an ended child; ``changes`` of argv, env, cgroups and meta hold from now on."""
        return Child.told((await self._request("restart", name=name, **changes))["child"])

    def order_of(self, name: str) -> ChildOrder:
        """What it was started with, its whole environment included: read from the keeper's record on disk, since the
        keeper tells no environment. Raises StepFailed when there is none."""
        try:
            record = json.loads((self.data_dir / "keeper" / "children" / f"{name}.json").read_bytes())
            order = {key: record[key] for key in ChildOrder.__dataclass_fields__ if key in record}
        except (OSError, ValueError) as error:
            raise StepFailed(f"the keeper's record of {name} cannot be read: {error}") from error
        marks = {"ROTA_KEEPER": self.data_dir_id, "ROTA_CHILD": name}  # by which the keeper finds strays
        return ChildOrder(**{**order, "env": {**order["env"], **marks}})

    async def signal(self, name: str, signal: str, *, tree: bool = False, restart: bool = True) -> int:
        """Sends e.g. "TERM"; with ``tree`` to all its processes, with ``restart`` False it is not started again.
        Returns how many got it; a child that nobody knows is none."""
        try:
            reply = await self._request("signal", name=name, signal=signal, tree=tree, restart=restart)
        except Refused as refused:
            if refused.reason == "unknown":
                return 0
            raise
        return int(reply["signalled"])

    async def forget(self, name: str) -> None:
        """Drops an ended child; what is left of its tree is gone then. One that nobody knows is no error."""
        await self._request("forget", name=name)

    async def update(self, name: str, meta: Mapping[str, Any]) -> Child:
        """Replaces its meta."""
        return Child.told((await self._request("update", name=name, meta=dict(meta)))["child"])

    async def listen(self, name: str, places: Mapping[str, str]) -> None:
        """Has connections wait for it at other places, from its next start on; at those of before they no longer do."""
        await self._request("listen", name=name, listen=dict(places))

    async def shutdown(self) -> None:
        """Ends the keeper and does not start another; refused ("children-alive") while a child lives."""
        self._leaving = True
        try:
            await self._request("shutdown")
        except Refused:
            self._leaving = False
            raise
        if self._task is not None:
            await self._task  # its connection closes when it has ended

    async def until(self, name: str, holds: Callable[[Child | None], bool], timeout: float) -> Child | None:
        """Waits until the condition holds of the child (None: nobody knows it) and returns it. Raises TimeoutError
        after ``timeout`` seconds."""
        async with asyncio.timeout(timeout):
            while not (self._connected.is_set() and holds(self._mirror.get(name))):
                await self._next_change()
        return self._mirror.get(name)

    def _silent(self) -> KeeperLost:
        return KeeperLost(f"the keeper did not answer within {self._patience:g} s")

    async def _next_change(self) -> None:
        change = asyncio.get_running_loop().create_future()
        self._changes.append(change)
        try:
            await change
        finally:
            self._changes.remove(change)

    async def _request(self, op: str, **fields: Any) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._patience):
                await self._connected.wait()
                return await self._ask(op, fields)
        except TimeoutError:
            raise self._silent() from None

    async def _ask(self, op: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        if self._writer is None:
            raise KeeperLost("the keeper is lost; it is being started again")
        key = next(self._ids)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            self._writer.write(json.dumps({"id": key, "op": op, **fields}).encode() + b"\n")
            return await answer
        finally:
            del self._waiting[key]

    async def _stay_connected(self, reader: asyncio.StreamReader) -> None:
        while True:
            await self._listen(reader)
            self._disconnect()
            if self._leaving:
                return
            _log.warning("the keeper of %s is lost; starting it again", self.data_dir)
            reader = await self._reconnect()

    async def _reconnect(self) -> asyncio.StreamReader:
        for delay in itertools.chain(_AGAIN, itertools.repeat(_AGAIN[-1])):
            await asyncio.sleep(delay)
            try:
                return await self._connect()
            except KeeperLost as lost:
                _log.warning("%s", lost)
        raise AssertionError("unreachable")

    async def _connect(self) -> asyncio.StreamReader:
        reader, writer = await ensure_keeper(self.data_dir, self._launch, self._patience)
        try:
            writer.write(b'{"id": 0, "op": "watch"}\n')
            async with asyncio.timeout(self._patience):
                reply = json.loads(await reader.readline())
        except (OSError, ValueError, TimeoutError) as error:
            writer.close()
            raise KeeperLost(f"the keeper answers nothing that can be read: {error}") from error
        self._reap()
        self._writer, self.keeper_pid = writer, reply["keeper"]["pid"]
        self.boot_id, self.data_dir_id = reply["boot_id"], reply["keeper"]["data_dir_id"]
        self._mirror_anew({record["name"]: Child.told(record) for record in reply["children"]})
        return reader

    def _mirror_anew(self, found: dict[str, Child]) -> None:
        before, self._mirror = self._mirror, found
        self._connected.set()
        for child in {**before, **found}.values():
            self._tell(child)

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Until the keeper has gone, or says what nobody understands."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            while line := await reader.readline():
                self._take(json.loads(line))

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            child = Child.told(message["child"])
            if message["event"] == "forgotten":
                self._mirror.pop(child.name, None)
            else:
                self._mirror[child.name] = child
            self._tell(child)
        elif (answer := self._waiting.get(message["id"])) is not None and not answer.done():
            if message["ok"]:
                answer.set_result(message)
            else:
                answer.set_exception(Refused(message["error"]["code"], message["error"]["message"]))

    def _tell(self, child: Child) -> None:
        for act in self._on_change:
            try:
                act(child)
            except Exception:  # noqa: BLE001 - a bug of one listener must not cut the daemon off from its keeper
                _log.exception("%s: its change could not be told", child.name)
        for change in self._changes:
            if not change.done():
                change.set_result(None)

    def _disconnect(self) -> None:
        self._connected.clear()
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(KeeperLost("the keeper was lost before it answered"))
        for child in self._mirror.values():
            self._tell(child)

    def _reap(self) -> None:
        """Leaves no zombie of a keeper that we had started ourselves."""
        if self.keeper_pid is not None:
            with suppress(ChildProcessError):
                os.waitpid(self.keeper_pid, os.WNOHANG)
