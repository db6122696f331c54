"""What the end-to-end tests under load share: hello deployed on a real server, and a load that counts every outcome."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.e2e.site import RUNTIMES, Containers, ServerAt

from rota.testing.docker import DockerEngine, docker_engine
from rota.testing.load import LoadPlan, LoadProcess, LoadReport
from rota.testing.server import Answer

FULL = bool(os.environ.get("ROTA_FULL"))
RATE = 1000.0 if FULL else 300.0  # requests a second
SLOW = 5.0 if FULL else 1.0  # seconds that a slow request takes
HELLO = Path(__file__).parents[2] / "examples/hello"
LIGHT: dict[str, Any] = {"rate": 100.0, "slow_seconds": 0.3}
same_on_both = pytest.mark.runtime(*(RUNTIMES if FULL else RUNTIMES[:1]), short=True)
"""For what has little to do with where the replicas run: on both runtimes in the long form."""


class Hello:
    """One app made of examples/hello, and its file to change."""

    def __init__(self, server: ServerAt, name: str = "hello", **keys: Any) -> None:
        self.server = server
        self.name = name
        self.host = f"{name}.localhost"
        self.directory = server.directory / f"source-{name}"
        shutil.copytree(HELLO, self.directory)
        self.version = 1
        self.keys: dict[str, Any] = {
            "name": name,
            "replicas": 3,
            "domains": [{"domain": self.host}],
            "health_check_path": "/health",
            **server.site.keys(),
            **keys,
        }

    async def deploy(self, *flags: str, env: dict[str, str] | None = None, **keys: Any) -> Answer:
        """Deploys with these keys and variables changed for good."""
        self.keys |= keys
        variables = {"HELLO_VERSION": str(self.version)} | (env or {})
        written = self.keys | {"env": [{"name": name, "value": value} for name, value in variables.items()]}
        (self.directory / "rota.yaml").write_text(yaml.safe_dump(written, sort_keys=False))
        return await self.server.cli("deploy", "--json", *flags, cwd=self.directory)

    async def deploy_ok(self, *flags: str, **keys: Any) -> dict[str, Any]:
        return succeeded(await self.deploy(*flags, **keys))

    async def deploy_new(self, *flags: str, env: dict[str, str] | None = None, **keys: Any) -> Answer:
        """A new version."""
        self.version += 1
        return await self.deploy(*flags, env=env, **keys)

    async def order(self, command: str, *words: str) -> dict[str, Any]:
        """``rota COMMAND APP …``, which has to succeed; the rollout."""
        return succeeded(await self.server.cli(command, self.name, *words, "--json"))

    async def ready(self) -> list[str]:
        return [replica["id"] for replica in await self.server.replicas(self.name) if replica["phase"] == "ready"]

    async def crash(self, replica: str) -> None:
        """The replica ends by itself, with an error."""
        await self.tell(replica, "/crash")

    async def tell(self, replica: str, path: str) -> None:
        """One of the replicas is asked for something, at its own address."""
        found = next(one for one in await self.server.replicas(self.name) if one["id"] == replica)
        host, _, port = found["address"].rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {path} HTTP/1.0\r\nHost: {self.host}\r\nContent-Length: 0\r\n\r\n".encode())
        await reader.read()
        writer.close()

    async def settled(self, replicas: int, timeout: float = 30.0) -> None:
        """Waits until exactly that many replicas exist, all ready."""

        async def holds() -> bool:
            phases = [replica["phase"] for replica in await self.server.replicas(self.name)]
            return phases == ["ready"] * replicas

        await self.server.until(holds, timeout)

    async def rollout_ended(self, timeout: float = 90.0, phase: str | None = None) -> dict[str, Any]:
        """Waits for the newest rollout's end, or for a phase of it, and returns it."""
        newest = (await self.server.get(f"/api/v1/rollouts?app={self.name}&limit=1"))["rollouts"][0]["id"]

        async def holds() -> bool:
            found = await self.server.get(f"/api/v1/rollouts/{newest}")
            return found["phase"] == phase if phase else found["finished_at"] is not None

        try:
            await self.server.until(holds, timeout)
        except TimeoutError:
            raise AssertionError(await self.state_of_affairs()) from None
        ended: dict[str, Any] = await self.server.get(f"/api/v1/rollouts/{newest}")
        return ended

    async def has_come_to(self, step: str) -> bool:
        """Whether a deploy is under way that has made such a step."""
        newest = (await self.server.get(f"/api/v1/rollouts?app={self.name}&limit=1"))["rollouts"][0]
        if newest["kind"] != "deploy" or newest["finished_at"] is not None:
            return False
        shown = await self.server.get(f"/api/v1/rollouts/{newest['id']}")
        return any(one["step"] == step for one in shown["steps"])

    async def state_of_affairs(self) -> str:
        """All that is known of the newest rollout, for a test that waited for it in vain."""
        rollouts = (await self.server.get(f"/api/v1/rollouts?app={self.name}&limit=1"))["rollouts"]
        found = await self.server.get(f"/api/v1/rollouts/{rollouts[0]['id']}") if rollouts else "no rollout"
        return f"{found}\n{await self.server.replicas(self.name)}\n{self.server.log[-3000:]}"

    def plan(self, **changes: Any) -> LoadPlan:
        """Open loop, new and kept connections mixed, GET and POST, slow requests among them."""
        usual: dict[str, Any] = {"rate": RATE, "slow_seconds": SLOW, "slow_share": 0.05, "post_share": 0.2}
        return LoadPlan(url=self.server.url, host=self.host, **(usual | changes))

    @asynccontextmanager
    async def load(self, **changes: Any) -> AsyncIterator[LoadProcess]:
        """A load in a process of its own; the caller stops it and looks at its report."""
        async with LoadProcess(self.plan(**changes)) as load:
            await load.wait_started()
            yield load


@contextmanager
def own_engine(component: Callable[[str], Path], **options: Any) -> Iterator[DockerEngine]:
    """One that tests may end or fill, with hello's image; ``options`` as for docker_engine."""
    for name in ("haproxy", "docker-engine", "docker"):
        component(name)
    with docker_engine(**options) as made:
        made.import_hello(HELLO)
        yield made


@asynccontextmanager
async def hello_on(engine: DockerEngine, **keys: Any) -> AsyncIterator[Hello]:
    """Three replicas of it, on a server of its own."""
    async with ServerAt(Containers(engine)) as server:
        hello = Hello(server, replicas=3, **keys)
        await hello.deploy_ok()
        yield hello


def succeeded(answer: Answer) -> dict[str, Any]:
    assert answer.code == 0, f"{answer.out}\n{answer.err}"
    rollout: dict[str, Any] = answer.json
    assert rollout["phase"] == "succeeded", rollout
    return rollout


class InvalidLoad(Exception):
    """The generator did not do what was planned, so that the run shows nothing: the test is tried again (conftest)."""


def nothing_lost(report: LoadReport) -> None:
    """0 lost, in a run that kept its rate. What an invalid one lost counts all the same."""
    assert report.lost == 0, f"{report.summary()}\n{report.samples[:10]}"
    if not report.valid:
        raise InvalidLoad(report.summary())
    assert report.ok > 0


def same_count(counted: int, sent: int) -> None:
    """Within 1 % of each other (R1)."""
    assert abs(counted - sent) <= max(2, sent * 0.01), f"the receipt has {counted}, the load generator {sent}"
