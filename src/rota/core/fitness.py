"""Which apps a runtime can run: what of a file is for containers and what is for processes; asked by the command line
before an upload and by the engine before an order is accepted."""

from __future__ import annotations

import enum
from collections.abc import Iterator

from rota.core.container import Container
from rota.core.spec import AppSpec


class RuntimeKind(enum.Enum):
    """``rota serve --runtime``."""

    PROCESS = "process"
    DOCKER = "docker"


def misfits(spec: AppSpec, runtime: RuntimeKind) -> dict[str, str]:
    """The keys that keep an app from running there, each with the reason and the way out; none means that it fits."""
    return dict(_not_for_processes(spec) if runtime is RuntimeKind.PROCESS else _not_for_containers(spec))


def _not_for_processes(spec: AppSpec) -> Iterator[tuple[str, str]]:
    if spec.image is not None and not spec.command:
        yield "image", "image alone cannot run on the process runtime: give command:"
    elif spec.image is not None:
        yield "image", "an image cannot run on the process runtime; remove it, or serve with --runtime docker"
    containers = {
        "volumes": bool(spec.volumes),
        "network": bool(spec.network),
        "container": spec.container != Container(),
    }
    for key, given in containers.items():
        if given:
            yield (
                key,
                f"{key} is for containers, and this server runs processes; remove it, or serve with --runtime docker",
            )


def _not_for_containers(spec: AppSpec) -> Iterator[tuple[str, str]]:
    if spec.image is None:
        yield "command", "this server runs containers (--runtime docker), and the file names no image; give image:"
