"""What an engine's refusal means to a person, and what there is to do; pure."""

from __future__ import annotations

import re

from rota.core.errors import StartFailed
from rota.ports.runtime import StartOrder

_NO_PROGRAM = re.compile(r'exec: "(?P<program>[^"]*)": (?P<why>[^:]*)')
_NO_NETWORK = re.compile(r"network (?P<network>\S+) not found")
_ID = re.compile(r"[0-9a-f]{64}")
_NO_SOURCE = re.compile(r"bind source path does not exist: (?P<path>.+)")
_NO_USER = re.compile(r"unable to find (?P<what>user|group) (?P<user>[^:]+):")
_HALF = re.compile(r"task \S+: already exists|endpoint with name \S+ already exists|failed to start shim: mkdir")
_UNMOUNTED = re.compile(r"-init/merged/\S*: no such file or directory")  # from under what is being created
_ENDING = (
    "transport is closing",
    "context canceled",
    "error while dialing",
    "client connection is closing",
    "failed to update store for object type",  # its networks' records are closed before its socket is
)


def not_started(order: StartOrder, message: str) -> StartFailed:
    """Why its container could not be created or started."""
    return StartFailed(
        _network_gone(order, message) or _explained(message) or f"{order.replica} cannot be started: {message}"
    )


def no_program(program: str, path: str) -> StartFailed:
    where = f"no such program in PATH ({path}) of the image" if "/" not in program else "no such file in the image"
    return StartFailed(f"cannot start {program!r}: {where}; check command: and image:, then deploy again")


def disk_full(message: str) -> str:
    """What there is to say of it; empty when that is not what the message says."""
    if "no space left on device" not in message.lower():
        return ""
    return f"the disk of the engine's machine is full ({message}); docker system prune frees some"


def ending(message: str) -> bool:
    """The engine was stopped in the middle of it, and is not out of reach yet."""
    return any(sign in message for sign in _ENDING) or _UNMOUNTED.search(message) is not None


def half_started(message: str) -> bool:
    """The engine was stopped in the middle of an earlier start, and has kept one half of it."""
    return _HALF.search(message) is not None


def address_lost(message: str) -> bool:
    """Somebody connected a container of his own to the network, and the engine gave it that address; or the network has
    moved since it was leased."""
    return "Address already in use" in message or "not belong to any of this network's subnets" in message


def _network_gone(order: StartOrder, message: str) -> str:
    """Empty when that is not what the message says. What a container was in before it knows by the id alone."""
    found = _NO_NETWORK.search(message)
    if found is None:
        return ""
    network = found["network"]
    if network == order.spec.network:
        return f"there is no network {network!r} on this engine; docker network create {network}, or change network:"
    if not _ID.fullmatch(network):
        return ""
    return (
        f"{order.replica} cannot be started again in place: a network that its container was in has been removed; "
        "restart without --order in-place, for new containers"
    )


def _explained(message: str) -> str:
    if found := _NO_PROGRAM.search(message):
        return (
            f"cannot start {found['program']!r}: {found['why'].strip()}; check command: and image:, then deploy again"
        )
    if "No command specified" in message:
        return "the image has no command of its own; give command:"
    if found := _NO_SOURCE.search(message):
        return f"the volume {found['path'].strip()} is not there on the engine's machine; create it, or change volumes:"
    if found := _NO_USER.search(message):
        return f"the image has no {found['what']} {found['user']!r}; change user:"
    return disk_full(message)
