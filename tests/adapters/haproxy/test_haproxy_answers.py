"""Answers of HAProxy that end in the middle, because it was killed while it spoke."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.socket import NotAnswering, call
from rota.adapters.balancer.haproxy.stats import ANY_STATUS, Reading, ServerReading, with_codes
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.core.observation import ServerState
from rota.testing.haproxy import APP, Rig, pool

EVERYTHING = "show stat -1 6 -1;show servers state;show info"


async def test_an_answer_cut_short_anywhere_is_none_or_leaves_nothing_out(rig: Rig, tmp_path: Path) -> None:
    await rig.ready(2, pool())
    whole = (await call(rig.settings.stats_socket, EVERYTHING)).encode()
    complete = await rig.balancer._haproxy.read()
    settings = Settings(tmp_path)
    said = whole

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(said)
        writer.close()

    async with await asyncio.start_unix_server(speak, settings.stats_socket):
        broken = Haproxy(settings)
        for end in range(0, len(whole), 13):
            said = whole[:end]
            try:
                reading = await broken.read()
            except NotAnswering:
                continue
            assert set(reading.of(APP).servers) == set(complete.of(APP).servers), end
        said = whole
        assert set((await broken.read()).of(APP).servers) == set(complete.of(APP).servers)


@pytest.mark.parametrize("half", ["# be_", "1\n# be_id be_name srv_id", "1\n# be_id be_name srv_id srv_name\n4 web"])
async def test_half_a_list_of_servers_is_no_answer(tmp_path: Path, half: str) -> None:
    settings = Settings(tmp_path)

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.write(half.encode())
        writer.close()

    async with await asyncio.start_unix_server(speak, settings.stats_socket):
        if half == "# be_":  # nothing that could be a server
            assert await Haproxy(settings).entries() == {}
        else:
            with pytest.raises(NotAnswering, match="cut short"):
                await Haproxy(settings).entries()


def test_a_status_that_is_forgotten_while_the_next_check_runs_is_remembered() -> None:
    reading = Reading({"web-1": server("HTTP 503"), "web-2": server("")})
    running = replace(reading, servers={"web-1": server(ANY_STATUS), "web-2": server(ANY_STATUS)})
    told = with_codes(running, {"web-1": "HTTP 503"}).servers
    assert (told["web-1"].check, told["web-2"].check) == ("HTTP 503", ANY_STATUS)
    assert with_codes(running, {}) == running
    assert with_codes(reading, {"web-1": ANY_STATUS}) == reading


def server(check: str) -> ServerReading:
    return ServerReading("web.1", "web", ServerState.READY, False, 0, 0, 0, 0, 0, check=check)
