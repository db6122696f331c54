"""Whether a container's program is in its image; asked by the docker runtime before a start.

With an init as PID 1 the engine's start always succeeds, and a program that is not there looks like an app that ended
with 127. The created container's files are asked instead, once a release."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from rota.adapters.runtime.docker.client import Client
from rota.adapters.runtime.docker.failures import no_program

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # the engine's, for an image without


async def check(client: Client, container: str, config: Mapping[str, Any]) -> None:
    """``config`` is the created container's. Raises StartFailed when there is no such program; EngineLost, Refused."""
    words = program_of(config)
    if not words:
        return
    program, directory = words[0], config.get("WorkingDir") or "/"
    path = _path(config.get("Env") or ())
    for place in [""] if "/" in program else path.split(":"):
        if await client.head(f"containers/{container}/archive", {"path": posixpath.join(directory, place, program)}):
            return
    raise no_program(program, path)


def program_of(config: Mapping[str, Any]) -> Sequence[str]:
    """What is executed, and its arguments."""
    return [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]


def _path(environment: Sequence[str]) -> str:
    variables = dict(entry.partition("=")[::2] for entry in environment)
    return variables.get("PATH") or _DEFAULT_PATH
