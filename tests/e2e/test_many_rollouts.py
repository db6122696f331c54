"""Rollouts one after the other under load, each with other settings of HAProxy's and so with a reload of it: nothing is
lost, on new connections or on kept ones."""

from __future__ import annotations

import pytest
from tests.e2e.scenario import FULL, Hello, nothing_lost, same_on_both, succeeded
from tests.e2e.site import ServerAt, Site

from rota.adapters.balancer.haproxy.socket import call

pytestmark = [pytest.mark.load, same_on_both, pytest.mark.timeout(1800 if FULL else 180)]

TIMES = 100 if FULL else 10


@pytest.mark.feature("V6", "V7", "R1")
async def test_rollouts_that_each_reload_haproxy_lose_nothing(site: Site) -> None:
    async with ServerAt(site) as server:
        app = Hello(server, replicas=2)
        await app.deploy_ok()
        before = await reloads(server)
        async with app.load(rate=300.0, slow_seconds=0.1) as load:
            rollouts = [succeeded(await app.deploy_new(http={"idle_timeout": 100 + turn})) for turn in range(TIMES)]
            report = await load.stop()
        assert await reloads(server) >= before + TIMES
        log = server.log
    nothing_lost(report)
    assert min(count.ok for count in report.by_connection.values()) > TIMES * 10, report.by_connection
    receipts = [rollout["receipt"] for rollout in rollouts]
    assert [(receipt["failed"], receipt["cut"], receipt["gaps"]) for receipt in receipts] == [(0, 0, [])] * TIMES
    assert all(receipt["complete"] for receipt in receipts)
    assert len(report.by_release) == TIMES + 1
    assert "Traceback" not in log


async def reloads(server: ServerAt) -> int:
    """How often HAProxy has been reloaded, as its master counts (management guide, "show proc")."""
    said = await call(server.directory / "state/haproxy/master.sock", "show proc")
    master = next(line.split() for line in said.splitlines() if " master " in f" {' '.join(line.split())} ")
    return int(master[2])
