"""What is executed for a replica or a build: arguments and the whole environment; pure but for looking up the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from rota.core.errors import StartFailed
from rota.core.spec import AppSpec
from rota.core.tcp import variables
from rota.ports.runtime import StartOrder

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def replica_environment(
    order: StartOrder, port: int, ports: Mapping[int, int], files: Path, path: str
) -> dict[str, str]:
    """The file's variables, PATH and ROTA's names, nothing else of the daemon's (design.md, "File"). The file may have
    its own PATH, HOME, LANG and TMPDIR; PORT and the ROTA_ names are not its to set."""
    return {
        "PATH": path,
        "HOME": str(files),
        "LANG": "C.UTF-8",
        "TMPDIR": str(files / "tmp"),
        **_written(order.spec),
        "PORT": str(port),
        **variables(ports),
        "ROTA_APP": order.app,
        "ROTA_RELEASE": str(order.release),
        "ROTA_SLOT": str(order.slot),
        "ROTA_REPLICA": order.replica,
        "ROTA_DATA": str(files),
    }


def build_environment(app: str, release: int, spec: AppSpec, home: Path, path: str) -> dict[str, str]:
    """As a replica's, without what only a replica has."""
    return {
        "PATH": path,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "TMPDIR": str(home),
        **_written(spec),
        "ROTA_APP": app,
        "ROTA_RELEASE": str(release),
    }


def executable(command: Sequence[str], directory: Path, environment: Mapping[str, str]) -> list[str]:
    """The command with its program as an absolute path: looked up in PATH, or below ``directory`` when it has a slash.
    Raises StartFailed that says what is wrong and what to do."""
    program = command[0]
    if "/" in program:
        return [_checked(program, directory), *command[1:]]
    for place in environment["PATH"].split(os.pathsep):
        candidate = os.path.normpath(directory / place / program)
        if os.path.isfile(candidate) and os.access(candidate, os.X_OK):
            return [candidate, *command[1:]]
    here = " (it is in the app's directory: write ./" + program + ")" if (directory / program).exists() else ""
    raise StartFailed(
        f"cannot start {program!r}: no such program in PATH ({environment['PATH']}){here}; "
        "install it, give its path in command:, or set PATH under env:"
    )


def _checked(program: str, directory: Path) -> str:
    # Not resolved further: a virtual environment's python finds its packages by the link's own place.
    path = os.path.normpath(directory / program)
    if not os.path.exists(path):
        raise StartFailed(f"cannot start {program!r}: no such file in the app's directory; build it, or upload it too")
    if os.path.isdir(path):
        raise StartFailed(f"cannot start {program!r}: that is a directory")
    if not os.access(path, os.X_OK):
        raise StartFailed(f"cannot start {program!r}: the file is not executable; chmod +x it and deploy again")
    return path


def _written(spec: AppSpec) -> dict[str, str]:
    return {variable.name: variable.value for variable in spec.env}
