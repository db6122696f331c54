"""A command beside a process replica: what it has in common with it, and what a lost daemon leaves of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.testing.machine import app_spec, machine, start_order

WEB_1 = ReplicaId("web-1")
WHERE = ("sh", "-c", "id -u; pwd; echo $ROTA_KEEPER $ROTA_CHILD; cat /proc/self/cgroup")


@pytest.mark.parametrize("user", [None, "nobody"] if os.geteuid() == 0 else [None])
async def test_it_runs_as_the_replica_does(user: str | None) -> None:
    async with machine() as real:
        app = app_spec(user=user)
        await real.unpacked(app, README="hello")
        await real.runtime.start(start_order(1, app))
        pid = real.children.known[WEB_1].pid
        ran = await real.runtime.exec.run(WEB_1, WHERE, 10)
        uid, directory, marks, *groups = ran.output.splitlines()
        process = Path(f"/proc/{pid}")
        assert int(uid) == process.stat().st_uid
        assert directory == str((process / "cwd").readlink())
        assert marks == f"{real.children.data_dir_id} web-1"
        assert groups == (process / "cgroup").read_text().splitlines()


async def test_without_the_keepers_record_it_says_so() -> None:
    async with machine() as real:
        app = app_spec()
        await real.unpacked(app, README="hello")
        await real.runtime.start(start_order(1, app))
        (real.data_dir / "keeper" / "children" / "web-1.json").unlink()
        with pytest.raises(StepFailed, match="the keeper's record of web-1 cannot be read"):
            await real.runtime.exec.run(WEB_1, WHERE, 10)
