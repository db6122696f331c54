"""The name server as a child of the keeper: started, left running, told to read its table; used by internal and made
by the composition root."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import rota
from rota.adapters.keeper.client import ChildOrder, Children
from rota.core.errors import Missing, StepFailed

NAMES = ("nameserver", "nameserver.b")
_START_TIMEOUT = 10.0  # seconds until it listens
_STOP_TIMEOUT = 10.0  # seconds
_LOAD_TIMEOUT = 5.0  # seconds
_SAME_ROTA = ("PATH", "PYTHONPATH")  # what has the child import the rota that the daemon is
_RELEASE = "--release"  # what has it, shares its port with the one that takes its place
_ENDS = 3  # times that it may end at its start before that is no accident
_LOOK_AGAIN = 0.02  # seconds


class KeptNameServer:
    """``children`` is open before the first call and closed by whoever opened it. It goes by one of two names: where
    another is to take its place (a new rota, other options) that one has the other name, and answers before it ends."""

    def __init__(
        self, children: Children, directory: Path, listen: Sequence[str], networks: Sequence[str] = ()
    ) -> None:
        self.table = directory / "table.json"
        self._children = children
        self._directory = directory
        self._log = directory / "nameserver.log"
        self._listen = listen
        self._networks = networks
        self._name = NAMES[0]

    @property
    def pid(self) -> int | None:
        child = self._children.known.get(self._name)
        return child.pid if child is not None and child.alive else None

    async def ensure(self) -> None:
        """Runs when it returns, and no other; one that runs already stays, unless it is of another rota or its options
        are others. The table is there before. Raises Missing when it cannot listen."""
        alive = [name for name in NAMES if name in self._children.known and self._children.known[name].alive]
        fitting = [name for name in alive if list(self._children.known[name].argv) == self._argv(name)]
        if not fitting:
            if len(alive) > 1 or not all(_shares(self._children.known[name].argv) for name in alive):
                await stop(self._children)
                alive = []
            self._name = next(name for name in NAMES if name not in alive)
            await self._start()
        else:
            self._name = fitting[0]
        await self._until_listening()
        for name in NAMES:
            if name != self._name:
                await _stop(self._children, name)

    async def _start(self) -> None:
        for address in self._listen:
            if not listens_on(self._children, address):
                refuse_in_use(address)
        env = {name: os.environ[name] for name in _SAME_ROTA if name in os.environ}
        argv, where, log = self._argv(self._name), str(self._directory), str(self._log)
        await self._children.start(ChildOrder(self._name, argv, env=env, cwd=where, log=log, restart=True))

    def _argv(self, name: str) -> list[str]:
        argv = [sys.executable, "-m", "rota", "nameserver", _RELEASE, rota.__version__]
        argv += [word for address in self._listen for word in ("--listen", address)]
        argv += ["--table", str(self.table), "--control", str(self._control_of(name))]
        return argv + [word for network in self._networks for word in ("--allow", network)]

    def _control_of(self, name: str) -> Path:
        return self._directory / ("control.sock" if name == NAMES[0] else "control.b.sock")

    async def load(self, version: int) -> None:
        """Returns once this version of the table is in force. With no name server there at this moment nothing is to
        be done: the next one binds its socket first and reads the table then. Raises StepFailed."""
        try:
            async with asyncio.timeout(_LOAD_TIMEOUT):
                told = await self._asked()
        except (FileNotFoundError, ConnectionRefusedError):
            return
        except (OSError, ValueError, TimeoutError) as error:
            raise StepFailed(f"the name server does not read its table: {error or 'no answer'}") from error
        if told.get("version") != version:
            raise StepFailed(f"the name server could not read its table: {told.get('error', told)}")

    async def _asked(self) -> dict[str, object]:
        reader, writer = await asyncio.open_unix_connection(str(self._control_of(self._name)))
        try:
            writer.write(b"load\n")
            told: dict[str, object] = json.loads(await reader.readline())
            return told
        finally:
            writer.close()

    async def _until_listening(self) -> None:
        """It opens its socket for the daemon first and its address after that: an answer alone says too little."""
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                while not await self._listens():
                    self._expect_it_alive()
                    await asyncio.sleep(_LOOK_AGAIN)
        except TimeoutError:
            await stop(self._children)
            raise Missing(f"the name server did not start; {self._log} says why") from None

    def _expect_it_alive(self) -> None:
        child = self._children.known.get(self._name)
        if child is not None and child.restarts >= _ENDS:
            raise TimeoutError

    async def _listens(self) -> bool:
        try:
            return bool((await self._asked()).get("listening"))
        except (OSError, ValueError):
            return False


def refuse_in_use(listen: str) -> None:
    """It would not start then, with a message that names neither the option nor the way out. Raises Missing."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
            if kind is socket.SOCK_STREAM:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, int(port)))
            except OSError as error:
                way_out = "give --dns another address, or end what has the port"
                raise Missing(f"cannot listen on {listen} ({error.strerror}); {way_out}") from error


def listens_on(children: Children, address: str) -> bool:
    """Whether a name server that runs has that address."""
    running = (children.known[name] for name in NAMES if name in children.known)
    return any(child.alive and address in child.argv for child in running)


async def stop(children: Children) -> None:
    """Ends the name server for good, if there is one."""
    for name in NAMES:
        await _stop(children, name)


async def _stop(children: Children, name: str) -> None:
    child = children.known.get(name)
    if child is None:
        return
    await children.signal(name, "TERM", restart=False)
    await children.until(name, lambda child: child is None or not child.alive, _STOP_TIMEOUT)
    await children.forget(name)


def _shares(argv: Sequence[str]) -> bool:
    return _RELEASE in argv
