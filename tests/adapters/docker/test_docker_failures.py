"""What an engine's words mean, as 20.10 says them when it is stopped in the middle of a start."""

from __future__ import annotations

import pytest

from rota.adapters.runtime.docker.failures import ending, half_started


@pytest.mark.parametrize(
    "message",
    [
        "failed to update store for object type *libnetwork.endpoint: open : no such file or directory",
        "transport is closing: unavailable",
        "Stat /var/lib/docker/overlay2/de709a8b3ca6-init/merged/dev/pts: no such file or directory",
        'connection error: desc = "transport: error while dialing: dial unix …": unavailable',
    ],
)
def test_an_engine_that_is_being_stopped_is_no_fault_of_the_replica(message: str) -> None:
    assert ending(message)
    assert not half_started(message)


def test_a_fault_of_the_replica_is_told_from_that() -> None:
    assert not ending('exec: "serve": executable file not found in $PATH: unknown')
