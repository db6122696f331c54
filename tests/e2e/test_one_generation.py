"""``overlap: forbid`` on a real server: workers that write down when they begin and end, and a daemon that is killed in
the middle of their change."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from tests.e2e.scenario import same_on_both
from tests.e2e.site import ServerAt, Site

from rota.testing.docker import HELLO

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]

REPLICAS = 2
WORKER = """
import os, signal, socket, threading

def mark(word):
    log = os.open(os.environ["MARKS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(log, f"{word} {os.environ['ROTA_REPLICA']}\\n".encode())

over = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: over.set())
mark("begin")
listening = socket.create_server((os.environ.get("HOST", "127.0.0.1"), int(os.environ["PORT"])))
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
            return [replica["phase"] for replica in replicas] == ["ready"] * REPLICAS

        await self.server.until(holds)
        return found

    async def any_in(self, phases: tuple[str, ...]) -> bool:
        return any(replica["phase"] in phases for replica in await self.replicas())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def workers(site: Site) -> AsyncIterator[Workers]:
    async with ServerAt(site) as server:
        source, marks = server.directory / "workers", server.directory / "marks"
        source.mkdir()
        marks.mkdir()
        marks.chmod(0o777)  # a container's user is another
        spec = {
            "name": "workers",
            "replicas": REPLICAS,
            "overlap": "forbid",
            "env": [{"name": "MARKS", "value": str(marks / "all")}],
            **_runs(site, marks),
        }
        (source / "rota.yaml").write_text(yaml.safe_dump(spec))
        await server.ok("deploy", cwd=source)
        yield Workers(server, marks / "all")


def _runs(site: Site, marks: Path) -> dict[str, Any]:
    """The directory of the marks has the same path wherever the workers are."""
    if site.name == "process":
        return {"command": [sys.executable, "-c", WORKER]}
    return {"image": HELLO, "command": ["python3", "-c", WORKER], "volumes": [f"{marks}:{marks}"]}


@pytest.mark.feature("S8", "R4")
@pytest.mark.parametrize(
    "phases",
    [
        pytest.param(("stopping",), id="old-stop"),
        pytest.param(("starting", "warming"), id="new-start", marks=same_on_both),
    ],
)
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
