"""What somebody has changed of a container, of what an engine says about it."""

from __future__ import annotations

import pytest

from rota.adapters.runtime.docker.alterations import altered, moved
from rota.adapters.runtime.docker.creation import creation
from rota.adapters.runtime.docker.inspection import Capability
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.limits import changed
from rota.adapters.runtime.docker.names import Names
from rota.core.spec import Limits
from rota.testing.dock import box_spec
from rota.testing.machine import start_order

MIB = 2**20
ALL = Capability()
OWN = {"rota-0": {"NetworkID": "0f"}}


@pytest.mark.parametrize(
    ("by_hand", "said"),
    [
        ({}, []),
        ({"PidsLimit": 50}, [("pids-limit", 50)]),
        ({"PidsLimit": None}, [("pids-limit", -1)]),
        ({"CpusetCpus": "0"}, [("cpuset-cpus", "0")]),
        ({"CpusetMems": "0", "CpuShares": 10}, [("cpu-shares", 10), ("cpuset-mems", "0")]),
        ({"MemoryReservation": MIB, "BlkioWeight": 10}, [("blkio-weight", 10), ("memory-reservation", MIB)]),
        ({"MemorySwap": 128 * MIB}, [("memory-swap", 128 * MIB)]),
        ({"MemorySwap": -1}, [("memory-swap", -1)]),
    ],
)
def test_each_setting_that_is_not_as_it_was_made_is_named(
    by_hand: dict[str, object], said: list[tuple[str, object]]
) -> None:
    order = start_order(1, box_spec(container={"pids": 7}), limits=Limits(memory=64 * MIB, cpus=0.5))
    made = creation(order, Labels.of(order, "10.0.0.2"), {"Id": "sha256:0", "Config": {}}, Names("0" * 32))
    host = made["HostConfig"]
    assert list(altered({**host, **by_hand}, 7, ALL)) == said
    assert list(altered({**host, **by_hand, "PidsLimit": 0}, None, ALL)) == [
        one for one in said if one[0] != "pids-limit"
    ]


@pytest.mark.parametrize("limits", [Limits(), Limits(memory=32 * MIB, cpus=0.25)])
def test_limits_that_rota_changes_are_nobodys_alteration(limits: Limits) -> None:
    host = {"Memory": 64 * MIB, "MemorySwap": 64 * MIB, "CpuQuota": 50_000, "PidsLimit": 7}
    assert list(altered({**host, **changed(limits, host, 2)}, 7, ALL)) == []


def test_what_a_kernel_cannot_do_is_nobodys_alteration() -> None:
    host = {"Memory": MIB, "MemorySwap": -1, "PidsLimit": None}
    assert list(altered(host, 7, Capability(swap=False, pids=False))) == []


@pytest.mark.parametrize(
    ("places", "further", "more", "fewer"),
    [
        ({}, "", set(), set()),
        ({"theirs": {"NetworkID": "ab"}}, "", {"theirs"}, set()),
        ({"theirs": {"NetworkID": "ab"}}, "theirs", set(), set()),
        ({"theirs": {"NetworkID": "abcdef"}}, "abc", set(), set()),
        ({"bridge": {"NetworkID": "cd"}}, "theirs", {"bridge"}, {"theirs"}),
        ({"theirs": {"NetworkID": "ab"}}, None, set(), set()),
    ],
)
def test_networks_are_the_own_one_and_the_files(
    places: dict[str, dict[str, str]], further: str | None, more: set[str], fewer: set[str]
) -> None:
    assert moved({**OWN, **places}, "rota-0", further) == (more, fewer)
    assert moved(places, "rota-0", further) == (more, fewer), "the own one is told of elsewhere"


def test_labels_of_an_earlier_version_say_nothing_of_either() -> None:
    labels = Labels.of(start_order(1, box_spec(network="theirs", container={"pids": 7})), "10.0.0.2")
    written = labels.written("0" * 32)
    environment = [f"{name}={value}" for name, value in labels.variables.items()]
    assert Labels.read({"Labels": written, "Env": environment}) == labels
    earlier = {name: value for name, value in written.items() if name not in {"rota.network", "rota.pids"}}
    read = Labels.read({"Labels": earlier, "Env": environment})
    assert (read.network, read.pids) == (None, None)
    assert read.written("0" * 32) == earlier
