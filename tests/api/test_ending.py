"""How the API's server ends: whoever has stalled does not hold it up."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from tests.api.scripted_engine import TOKEN, ScriptedEngine

from rota import daemon
from rota.api import create_api


@asynccontextmanager
async def stalled_upload() -> AsyncIterator[tuple[uvicorn.Server, asyncio.StreamWriter]]:
    """A server that has the beginning of an upload; it is to have ended within ten seconds of the block."""
    api = create_api(ScriptedEngine(), hashlib.sha256(TOKEN.encode()).hexdigest())
    web = daemon.web_server(api, grace=0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        serving = asyncio.create_task(web.serve(sockets=[listener]))
        while not web.started:
            await asyncio.sleep(0.01)
        _, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(f"POST /api/v1/sources HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n".encode())
        writer.write(b"Content-Length: 1000\r\n\r\na beginning")
        while not web.server_state.tasks:
            await asyncio.sleep(0.01)
        yield web, writer
        async with asyncio.timeout(10):
            await serving
        await asyncio.gather(*web.server_state.tasks, return_exceptions=True)
        writer.close()


async def test_a_client_that_stalled_in_an_upload_does_not_hold_up_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    async with stalled_upload() as (web, _):
        web.should_exit = True
    assert "Traceback" not in capfd.readouterr().err


async def test_an_upload_that_breaks_off_is_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    async with stalled_upload() as (web, writer):
        writer.close()
        await writer.wait_closed()
        while web.server_state.tasks:
            await asyncio.sleep(0.01)
        web.should_exit = True
    assert "Traceback" not in capfd.readouterr().err
