"""Whether a container's program is in its image; asked by the docker runtime before a start.

With an init as PID 1 the engine's start always succeeds, and a program that is not there looks like an app that ended
with 127. The created container's files are asked instead, once for an image and what is to run in it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from rota.adapters.runtime.docker.client import Refused
from rota.adapters.runtime.docker.failures import no_program

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # the engine's, for an image without


class Files(Protocol):
    async def head(self, path: str, params: Mapping[str, str]) -> bool:
        """Whether it is there. Raises Refused where nobody can say."""
        ...


async def check(files: Files, container: str, config: Mapping[str, Any]) -> bool:
    """Whether its program is certain to be there; ``config`` is the created container's. Where the engine cannot look,
    its start will say why. Raises StartFailed when there is no such program; EngineLost."""
    words = program_of(config)
    if not words:
        return True
    program, directory = words[0], config.get("WorkingDir") or "/"
    path, unseen = _path(config.get("Env") or ()), False
    for place in [""] if "/" in program else path.split(":"):
        try:
            asked = {"path": posixpath.join(directory, place, program)}
            if await files.head(f"containers/{container}/archive", asked):
                return True
        except Refused:
            unseen = True
    if not unseen:
        raise no_program(program, path)
    return False


def program_of(config: Mapping[str, Any]) -> Sequence[str]:
    """What is executed, and its arguments."""
    return [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]


def _path(environment: Sequence[str]) -> str:
    variables = dict(entry.partition("=")[::2] for entry in environment)
    return variables.get("PATH") or _DEFAULT_PATH
