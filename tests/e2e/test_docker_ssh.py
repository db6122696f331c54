"""A real server whose engine is behind a real sshd: over cut connections and a killed daemon."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.e2e.scenario import LIGHT, Hello, nothing_lost
from tests.e2e.site import Containers, ServerAt

from rota.testing.docker import DockerEngine
from rota.testing.sshd import SshServer, ssh_server

pytestmark = [pytest.mark.full, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def ssh(component: Callable[[str], Path]) -> Iterator[SshServer]:
    with ssh_server(component("sshd")) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", server.path)
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(ssh: SshServer, docker_engine: DockerEngine, component: Callable[[str], Path]) -> AsyncIterator[Hello]:
    component("haproxy")
    async with ServerAt(Containers(docker_engine, ssh.url(docker_engine.host))) as server:
        hello = Hello(server, replicas=2)
        await hello.deploy_ok()
        yield hello


def tunnels(server: ServerAt) -> list[int]:
    """The processes of ssh that work for this server."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and Path("/proc", entry, "comm").exists():
            try:
                ours = Path("/proc", entry, "cwd").readlink() == server.directory / "state/ssh"
            except OSError:
                continue
            found += [int(entry)] if ours else []
    return found


async def test_a_killed_daemon_leaves_no_tunnel_and_the_next_one_goes_on(app: Hello) -> None:
    before = await app.ready()
    (first,) = tunnels(app.server)
    await app.server.kill()

    async def ended() -> bool:
        return not tunnels(app.server)

    await app.server.until(ended)
    await app.server.start()
    assert await app.ready() == before
    assert first not in tunnels(app.server)
    assert len(tunnels(app.server)) == 1


async def test_a_restart_goes_on_over_connections_that_are_cut(app: Hello, ssh: SshServer) -> None:
    async with app.load(**LIGHT) as load:
        await app.server.ok("restart", app.name, "--detach")
        for _ in range(3):
            standing = set(tunnels(app.server))
            ssh.cut()

            async def another() -> bool:
                return bool(set(tunnels(app.server)) - standing)  # noqa: B023 - awaited in this turn

            await app.server.until(another)
            await app.server.until(app.server.is_ready)
        assert (await app.rollout_ended())["phase"] == "succeeded"
        nothing_lost(await load.stop())
