"""Version 2's control groups of the real kernel, whatever controllers they have here: a tree in one group, its CPU
time, its end in one go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rota.adapters.cgroupfiles import directories, is_v2, members
from rota.core.names import ReplicaId
from rota.core.spec import Limits
from rota.testing.machine import app_spec, machine, start_order, until

WEB_1 = ReplicaId("web-1")


async def test_a_replica_s_tree_is_in_one_group_of_version_2(component: Callable[[str], Path]) -> None:
    mount = component("cgroup2")
    assert is_v2(mount)
    controllers = (mount / "cgroup.controllers").read_text().split()
    # A child that leaves session and parent, as a daemon does; both work.
    app = app_spec("sh", "-c", "setsid sh -c 'while :; do :; done' & while :; do :; done")
    limits = Limits(memory=64 * 2**20)
    async with machine(cgroup_mount=mount) as real:
        await real.unpacked(app, README="hello")
        await real.runtime.start(start_order(1, app, limits=limits))
        (group,) = real.children.known[WEB_1].cgroups
        pid = real.children.known[WEB_1].pid
        assert Path(group).is_relative_to(mount)
        assert directories(Path(f"/proc/{pid}/cgroup"), mount) == (group,)
        await until(lambda: len(members([group]) or ()) >= 2)

        async def worked() -> bool:
            reading = (await real.runtime.usage([WEB_1]))[WEB_1]
            text = Path(group, "cpu.stat").read_text()
            assert reading.cpu_seconds <= int(text.split()[1]) / 1e6
            return reading.cpu_seconds > 0.05 and reading.memory > 0

        await until(worked)
        seen = (await real.runtime.observe())[0][WEB_1]
        assert seen.limits_enforced == ("memory" in controllers)
        await real.runtime.kill(WEB_1)
        await until(lambda: not members([group]))
        await until(lambda: not real.children.known[WEB_1].alive)
        await real.runtime.remove(WEB_1)
        assert not Path(group).exists()
