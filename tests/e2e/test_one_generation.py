"""``overlap: forbid`` on real processes: workers that write down when they begin and end, and a daemon that is killed
in the middle of their change."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from tests.e2e.site import Processes, ServerAt

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

WORKER = """
import os, signal, socket, threading

def mark(word):
    log = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{word} {os.environ['ROTA_REPLICA']}\\n".encode())

over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
mark("begin")
listening = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
over.wait()
threading.Event().wait(0.3)  # the last job
mark("end")
"""


@dataclass(frozen=True)
class Workers:
    server: ServerAt
    marks: Path

    async def replicas(self) -> list[dict[str, Any]]:
        return await self.server.replicas("workers")

    async def settled(self) -> list[str]:
        found: list[str] = []

        async def holds() -> bool:
            replicas = await self.replicas()
            found[:] = [replica["id"] for replica in replicas]
            return [replica["phase"] for replica in replicas] == ["ready"] * 3

        await self.server.until(holds)
        return found

    async def any_in(self, phases: tuple[str, ...]) -> bool:
        return any(replica["phase"] in phases for replica in await self.replicas())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers() -> AsyncIterator[Workers]:
    async with ServerAt(Processes()) as server:
        source, marks = server.directory / "workers", server.directory / "marks"
        source.mkdir()
        (source / "worker.py").write_text(WORKER)
        spec = {
            "name": "workers",
            "replicas": 3,
            "command": [sys.executable, "worker.py"],
            "overlap": "forbid",
            "env": [{"name": "MARKS", "value": str(marks)}],
        }
        (source / "rota.yaml").write_text(yaml.safe_dump(spec))
        await server.ok("deploy", cwd=source)
        yield Workers(server, marks)


@pytest.mark.feature("S8", "R4")
@pytest.mark.parametrize("phases", [("stopping",), ("starting", "warming")], ids=["old-stop", "new-start"])
async def test_a_killed_daemon_lets_no_two_generations_run_at_once(workers: Workers, phases: tuple[str, ...]) -> None:
    server, old = workers.server, set(await workers.settled())
    await server.ok("restart", "workers", "--detach")
    await server.until(lambda: workers.any_in(phases))
    await server.kill()
    await server.start()
    new = set(await _changed(workers, old))
    lines = workers.marks.read_text().splitlines()
    began, ended = ({line.split()[1] for line in lines if line.startswith(word)} for word in ("begin", "end"))
    assert (began & old, ended & old, began & new, ended & new) == (old, old, new, set())
    assert _at_once(lines, old, new) == []


async def _changed(workers: Workers, old: set[str]) -> list[str]:
    async def holds() -> bool:
        return not old & {replica["id"] for replica in await workers.replicas()}

    await workers.server.until(holds)
    return await workers.settled()


def _at_once(lines: list[str], old: set[str], new: set[str]) -> list[str]:
    """The new ones that began while an old one still worked."""
    last_end = max(number for number, line in enumerate(lines) if line.split()[1] in old)
    return [line for line in lines[:last_end] if line.split()[1] in new]
