"""Another HAProxy in the place of the one that runs, under its users' requests."""

from __future__ import annotations

import pytest

from rota.adapters.balancer.haproxy.binary import full_version_of
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.testing.haproxy import HOST, Rig, binary_of, pool, running_rig
from rota.testing.web import Load, web_socket


async def version(rig: Rig) -> str:
    return await Haproxy(rig.settings).version()


@pytest.mark.feature("V6")
async def test_a_later_haproxy_takes_over_and_nobody_notices() -> None:
    async with running_rig("system") as rig:
        await rig.ready(2, pool())
        reader, writer = await web_socket(rig.port, HOST)
        async with Load(rig.port, HOST, clients=6).running() as load:
            await load.further(30)
            rig.binary = binary_of("bundled")
            await rig.another_daemon()
            assert await version(rig) == full_version_of(rig.binary)
            await load.further(60)
            await rig.balancer.prepare(pool("/health/2"), (HOST,))  # its reloads work as before
            await load.further(30)
        assert load.lost == 0, load.outcomes
        writer.write(b"still")
        assert await reader.readexactly(5) == b"still"
        writer.close()


async def test_an_earlier_haproxy_waits_until_the_next_start() -> None:
    async with running_rig("bundled") as rig:
        await rig.ready(1, pool())
        later = await version(rig)
        rig.binary = binary_of("system")
        await rig.another_daemon()
        await rig.balancer.prepare(pool("/health/2"), (HOST,))
        assert await version(rig) == later
        assert (await rig.client().ask())[0] == 200
