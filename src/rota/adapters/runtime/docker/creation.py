"""The request that creates a replica's container: what runs, with which rights, how it is reached; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rota.adapters.runtime.command import with_port
from rota.adapters.runtime.docker import limits
from rota.adapters.runtime.docker.inits import is_init
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.program import program_of
from rota.core.container import Volume
from rota.core.spec import AppSpec
from rota.ports.runtime import StartOrder

_LOGS = {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
_SCRATCH = {"/tmp": "rw,nosuid,nodev,size=64m"}  # noqa: S108  (what a read-only container may still write to)


def creation(order: StartOrder, labels: Labels, image: Mapping[str, Any], names: Names) -> dict[str, Any]:
    """The body of POST /containers/create. ``image`` is the engine's answer about it."""
    spec = order.spec
    body: dict[str, Any] = {
        "Image": str(image["Id"]),
        "Labels": labels.written(names.server_id),
        "Env": [f"{name}={value}" for name, value in _environment(spec, labels).items()],
        "StopSignal": spec.stop_signal,
        "Healthcheck": {"Test": ["NONE"]},  # rota makes the image's checks itself, as often as its phase asks for
        "ExposedPorts": {f"{port}/tcp": {} for port in (labels.port, *labels.ports)},
        "HostConfig": _host_config(order, names, _needs_init(spec, image)),
        "NetworkingConfig": {
            "EndpointsConfig": {names.network: {"IPAMConfig": {"IPv4Address": labels.address}}},
        },
    }
    if spec.command:
        body["Cmd"] = with_port(spec.command, labels.port, labels.as_named)
    if spec.user is not None:
        body["User"] = spec.user
    return body


def _environment(spec: AppSpec, labels: Labels) -> Mapping[str, str]:
    """The file's variables over the image's own; PORT and the ROTA_ names are not its to set."""
    return {**{variable.name: variable.value for variable in spec.env}, **labels.variables}


def _needs_init(spec: AppSpec, image: Mapping[str, Any]) -> bool:
    if spec.container.init is not None:
        return spec.container.init
    config = image.get("Config") or {}
    return not is_init(program_of({**config, "Cmd": spec.command} if spec.command else config))


def _host_config(order: StartOrder, names: Names, init: bool) -> dict[str, Any]:
    container = order.spec.container
    return {
        **limits.at_creation(order.limits),
        "NetworkMode": names.network,
        "RestartPolicy": {"Name": "no"},  # rota replaces, the engine restarts nothing (W1)
        "Init": init,
        "PidsLimit": container.pids,
        "ReadonlyRootfs": container.read_only,
        "Tmpfs": dict(_SCRATCH) if container.read_only else {},
        "SecurityOpt": ["no-new-privileges"] if container.no_new_privileges else [],
        "CapDrop": ["ALL"],
        "CapAdd": list(container.capabilities),
        "LogConfig": _LOGS,
        "Mounts": [_mount(volume) for volume in order.spec.volumes],
    }


def _mount(volume: Volume) -> dict[str, Any]:
    """A directory of the machine that is not there is an error, not made silently (as ``--volume`` would)."""
    kind = "bind" if volume.source.startswith("/") else "volume"
    return {"Type": kind, "Source": volume.source, "Target": volume.target, "ReadOnly": volume.read_only}
