"""What an engine's refusal means to a person, and what there is to do; pure."""

from __future__ import annotations

import re

from rota.core.errors import StartFailed

_NO_PROGRAM = re.compile(r'exec: "(?P<program>[^"]*)": (?P<why>[^:]*)')
_NO_NETWORK = re.compile(r"network (?P<network>\S+) not found")
_NO_SOURCE = re.compile(r"bind source path does not exist: (?P<path>.+)")
_NO_USER = re.compile(r"unable to find (?P<what>user|group) (?P<user>[^:]+):")


def not_started(replica: str, message: str, program: str) -> StartFailed:
    """Why a container could not be created or started; ``program`` is what it was to run."""
    return StartFailed(_explained(message, program) or f"{replica} cannot be started: {message}")


def no_program(program: str, path: str) -> StartFailed:
    where = f"no such program in PATH ({path}) of the image" if "/" not in program else "no such file in the image"
    return StartFailed(f"cannot start {program!r}: {where}; check command: and image:, then deploy again")


def address_taken(message: str) -> bool:
    """Somebody connected a container of his own to the network, and the engine gave it that address."""
    return "Address already in use" in message


def _explained(message: str, program: str) -> str:
    if found := _NO_PROGRAM.search(message):
        return (
            f"cannot start {found['program']!r}: {found['why'].strip()}; check command: and image:, then deploy again"
        )
    if "No command specified" in message:
        return "the image has no command of its own; give command:"
    if found := _NO_NETWORK.search(message):
        network = found["network"]
        return f"there is no network {network!r} on this engine; docker network create {network}, or change network:"
    if found := _NO_SOURCE.search(message):
        return f"the volume {found['path'].strip()} is not there on the engine's machine; create it, or change volumes:"
    if found := _NO_USER.search(message):
        return f"the image has no {found['what']} {found['user']!r}; change user:"
    if "no space left on device" in message.lower():
        return f"cannot start {program!r}: the engine's disk is full ({message}); docker system prune frees some"
    return ""
