"""The directory that HAProxy is started from: haproxy.cfg and its maps, each replaced in one moment, and the key
of the sticky apps' cookies, made once; used by balancer.py alone.

All of it is done by one thread, in the order of the calls: with 10,000 servers the file has 3 MB, and neither its
making nor the disk may hold up the daemon (bench/scale.py). A write that nobody waits for any more ends before the
next."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

from rota.adapters.balancer.haproxy.binary import full_version_of
from rota.adapters.balancer.haproxy.config import Sections, render
from rota.adapters.balancer.haproxy.maps import MAPS, maps_of
from rota.adapters.balancer.haproxy.pages import DIRECTORY, page_files
from rota.adapters.balancer.haproxy.refusal import refusal
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import State, read_state
from rota.adapters.balancer.haproxy.succession import PASSED_MAP
from rota.adapters.inturn import InTurn
from rota.core.errors import StepFailed

CHECK_DEADLINE = 30.0
"""Seconds: a file for 10,000 servers takes one or two, and every change waits for a check that is under way."""

_KEY = re.compile(r"[0-9a-f]{32}", re.ASCII)


class Disk:
    """``deadline``, in seconds, is HAProxy's for its word on a file."""

    def __init__(self, settings: Settings, binary: str, deadline: float = CHECK_DEADLINE) -> None:
        self._settings = settings
        self._binary = binary
        self._deadline = deadline
        self._key = ""
        self._sections = Sections()
        self._turn = InTurn("haproxy.cfg")

    async def close(self) -> None:
        """Waits for what is under way; nothing may be asked after this."""
        await self._turn.close()

    async def read(self) -> State:
        """The state in the file; an empty one when there is no file. Raises StepFailed when it cannot be read."""
        return await self._turn.do(self._read)

    async def choose_program(self, running: str) -> bool:
        """Leads the link to the configured haproxy, and says whether the one that runs, by its version, is to be
        reloaded for it. An earlier version waits until HAProxy is next started: a later one's reload expects an
        answer that it does not give (2.8 to 2.6, measured). Raises Missing."""
        return await self._turn.do(lambda: self._choose_program(running))

    async def check(self, state: State) -> None:
        """Asks ``haproxy -c`` about the file that the state would give. Raises StepFailed with what it says."""
        trial = self._settings.directory / "haproxy.cfg.trial"
        text = await self._turn.do(lambda: self._replace_trial(trial, state))
        try:
            await self._accepts(trial, text)
        finally:
            trial.unlink(missing_ok=True)

    async def differs(self, state: State) -> bool:
        """Whether the file is another than the state and the settings give now: written by another version of rota,
        or with another address. Raises StepFailed."""
        return await self._turn.do(lambda: self._differs(state))

    async def write(self, state: State, *, maps_first: bool = False) -> Mapping[str, str]:
        """Writes what has changed, and returns what each map now holds. An app is added with the file first and taken
        out with the maps first, so that at every moment the maps lead only to what the file has. Raises StepFailed."""
        return await self._turn.do(lambda: self._write(state, maps_first))

    async def clear(self, state: State) -> None:
        """Deletes the pages that the state does not name, once a worker runs on it: each has read its own at its start,
        and the next to be started reads those of the file that is there. What cannot be deleted waits for the next."""
        with contextlib.suppress(OSError):
            await self._turn.do(lambda: self._clear(state))

    def _read(self) -> State:
        path = self._settings.config
        try:
            self._settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._key = self._read_key()
            return read_state(path.read_text()) if path.exists() else State()
        except (OSError, ValueError) as error:
            raise StepFailed(f"{path} cannot be read: {error}; delete it to begin with an empty one") from error

    def _choose_program(self, running: str) -> bool:
        link, found = self._settings.program, full_version_of(self._binary)
        if running and _order(found) < _order(running) and link.exists():
            return False
        try:
            new = link.with_name("haproxy.new")
            new.unlink(missing_ok=True)
            new.symlink_to(Path(self._binary).absolute())
            new.rename(link)
        except OSError as error:
            raise StepFailed(f"{link} could not be made: {error}") from error
        return bool(running) and _order(found) > _order(running)

    async def _accepts(self, trial: Path, text: str) -> None:
        try:
            program = await asyncio.create_subprocess_exec(
                *(self._binary, "-c", "-C", str(self._settings.directory), "-f", trial.name),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise StepFailed(f"HAProxy cannot be run: {error}") from error
        try:
            async with asyncio.timeout(self._deadline):
                _, said = await program.communicate()
        except TimeoutError as error:
            raise StepFailed(
                f"HAProxy has not said within {self._deadline:g} s whether it accepts its new file, and the one before "
                f"stays in force; `{self._binary} -c` of it hangs"
            ) from error
        finally:
            await _ended(program)
        if program.returncode != 0:
            raise StepFailed(refusal(text, said.decode(errors="replace")))

    def _differs(self, state: State) -> bool:
        try:
            return not self._settings.config.exists() or self._settings.config.read_text() != self._render(state)
        except (OSError, ValueError) as error:
            raise StepFailed(f"{self._settings.config} cannot be read: {error}") from error

    def _write(self, state: State, maps_first: bool) -> Mapping[str, str]:
        try:
            maps = maps_of(state)
            if maps_first:
                self._write_maps(maps)
            self._write_config(state)
            if not maps_first:
                self._write_maps(maps)
            return maps
        except (OSError, ValueError) as error:
            raise StepFailed(f"HAProxy's file could not be written: {error}") from error

    def _render(self, state: State) -> str:
        return render(state, self._settings, self._key, self._sections)

    def _read_key(self) -> str:
        """One for good, unless the file is damaged: with another, every sticky user is given another replica."""
        path = self._settings.cookie_key
        if not path.exists() or not _KEY.fullmatch(path.read_text(errors="replace")):
            _replace(path, secrets.token_hex(16))
        return path.read_text()

    def _replace_trial(self, trial: Path, state: State) -> str:
        try:
            self._begin_maps(*MAPS, PASSED_MAP)
            self._write_pages(state)
            text = self._render(state)
            _replace(trial, text)
            return text
        except (OSError, ValueError) as error:
            raise StepFailed(f"HAProxy's file could not be written: {error}") from error

    def _write_config(self, state: State) -> None:
        self._begin_maps(PASSED_MAP)
        self._write_pages(state)
        _replace(self._settings.config, self._render(state))

    def _begin_maps(self, *names: str) -> None:
        """HAProxy starts with no file that names a map which is not there."""
        for name in names:
            if not (self._settings.directory / name).exists():
                _replace(self._settings.directory / name, "")

    def _write_pages(self, state: State) -> None:
        """Named by what they hold, they are never changed; those of files before stay until ``clear``."""
        for name, text in page_files(state, self._settings).items():
            path = self._settings.directory / name
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _replace(path, text)

    def _clear(self, state: State) -> None:
        named = {self._settings.directory / name for name in page_files(state, self._settings)}
        for path in (self._settings.directory / DIRECTORY).glob("*"):
            if path not in named:
                path.unlink()

    def _write_maps(self, maps: Mapping[str, str]) -> None:
        for name, text in maps.items():
            _replace(self._settings.directory / name, text)


async def _ended(program: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        program.kill()
    await program.wait()


def _order(version: str) -> tuple[int, ...]:
    """``2.6.12-1+deb12u3`` as numbers to compare."""
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _replace(path: Path, text: str) -> None:
    """Puts a file in place whole, unless it is there. The directory is not flushed: what a power cut could bring back
    is the file before, and it ends the replicas as well, which the daemon then compares."""
    written = text.encode()
    if path.exists() and path.read_bytes() == written:
        return
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(written)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
