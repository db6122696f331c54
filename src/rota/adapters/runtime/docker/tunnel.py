"""A tunnel to an engine on another machine: one ``ssh`` that leads from a local socket to the engine's, started again
whenever it ends; used by the client.

It is this process's child and never outlives it, so that there is nothing for the next daemon to take over."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
from asyncio.subprocess import DEVNULL, PIPE, Process
from contextlib import suppress
from pathlib import Path

from rota.adapters.runtime.docker.sshaddress import SshAddress
from rota.adapters.tied import tied
from rota.core.errors import Missing

_log = logging.getLogger(__name__)
PATIENCE = 30.0  # seconds until it leads there: a host that does not answer is given up by ssh itself before
_SOCKET = "engine.sock"
_LOOK_AGAIN = 0.02  # seconds
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0
_LAST_WORDS = 1.0  # seconds; a process that ssh has started may keep its stderr open
_LONGEST_LINE = 500
_WAYS_OUT = {
    "Host key verification failed": "connect once by hand as this user, to look at the host's key and accept it",
    "Permission denied": "let this user in there: by a key without a passphrase, or an agent in SSH_AUTH_SOCK",
}
_BY_HAND = "see whether ssh leads there by hand, as this user"


class Tunnel:
    """``directory`` is for its socket, and made when it opens."""

    def __init__(self, address: SshAddress, directory: Path) -> None:
        self._address = address
        self._directory = directory
        self._trouble = "is not reached yet"
        self._said = ""
        self._tried = asyncio.Event()
        self._keeping: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Of the local end, as DOCKER_HOST has it."""
        return f"unix://{self._directory / _SOCKET}"

    async def open(self) -> None:
        """It stands when this returns. Raises Missing with the reason, and what to do."""
        if shutil.which("ssh") is None:
            raise Missing("cannot be reached: the program ssh is missing (apt-get install openssh-client)")
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Missing(f"cannot be reached: {self._directory} cannot be made ({error.strerror})") from error
        self._keeping = asyncio.create_task(self._keep())
        await self._tried.wait()
        if self._trouble:
            await self.close()
            raise Missing(self._trouble)

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)

    def why(self) -> str:
        """Of a request that got no answer."""
        if self._trouble:
            return self._trouble
        # sshd answers the same where nobody listens, where the user may not, and where it forwards nothing.
        said = f" (ssh: {self._said})" if self._said else ""
        return (
            f"is reached, but nothing answers at {self._address.socket} there{said}; start it, let the user use its "
            "socket, have sshd forward it (AllowStreamLocalForwarding), or name another: ssh://user@host/path"
        )

    async def _keep(self) -> None:
        wait = _FIRST_WAIT
        while True:
            stood = await self._stand()
            wait = _FIRST_WAIT if stood else min(_LONGEST_WAIT, wait * 2)
            await asyncio.sleep(wait)

    async def _stand(self) -> bool:
        """One ssh, to its end; whether it led there."""
        self._said = ""
        try:
            process = await self._begin()
        except OSError as error:
            self._note(f"is not reached: ssh cannot be started ({error.strerror})")
            return False
        listening = asyncio.create_task(self._listen(process))
        try:
            stood = await self._until_up(process)
            if stood:
                self._said = ""
                self._note("")
            elif process.returncode is None:
                process.kill()
            code = await process.wait()
            await asyncio.wait([listening], timeout=_LAST_WORDS)
            self._note(self._ending(code, stood))
            return stood
        finally:
            listening.cancel()
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def _begin(self) -> Process:
        """Raises OSError."""
        (self._directory / _SOCKET).unlink(missing_ok=True)
        # A session of its own: Ctrl-C in a terminal is for the daemon, and there is nobody to be asked.
        return await asyncio.create_subprocess_exec(
            *tied(self._address.command(f"./{_SOCKET}")),
            cwd=self._directory,
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=PIPE,
            start_new_session=True,
        )

    async def _until_up(self, process: Process) -> bool:
        """False when it has ended, or takes too long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while process.returncode is None:
                    if await asyncio.to_thread(self._accepts):
                        return True
                    await asyncio.sleep(_LOOK_AGAIN)
        return False

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as asking:
            try:
                asking.connect(str(self._directory / _SOCKET))
            except OSError:
                return False
        return True

    async def _listen(self, process: Process) -> None:
        """Keeps the last line that ssh has said; lines of any length and content may come, from the host too."""
        rest = b""
        while process.stderr is not None and (piece := await process.stderr.read(4096)):
            *lines, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
            rest = rest[:_LONGEST_LINE]
            for line in lines:
                self._hear(line)
        self._hear(rest)

    def _hear(self, line: bytes) -> None:
        said = "".join(one for one in line[:_LONGEST_LINE].decode(errors="replace") if one.isprintable()).strip()
        if said:
            self._said = said
            _log.info("ssh: %s", said)

    def _ending(self, code: int, stood: bool) -> str:
        said = self._said or (f"ended with code {code}" if stood or code >= 0 else f"silent for {PATIENCE:g} s")
        way = next((way for words, way in _WAYS_OUT.items() if words in said), _BY_HAND)
        return f"is not reached (ssh: {said}); {way}"

    def _note(self, trouble: str) -> None:
        if trouble and not self._trouble:
            _log.warning("the tunnel to %s is gone, and begun again: it %s", self._address.host, trouble)
        elif not trouble and self._tried.is_set():
            _log.info("the tunnel to %s stands again", self._address.host)
        self._trouble = trouble
        self._tried.set()
