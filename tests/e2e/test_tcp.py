"""TCP services as a person sets them up: connections through a rolling restart, the user's address, TLS by name."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from tests.e2e.scenario import succeeded
from tests.e2e.site import Containers, Processes, ServerAt

from rota.testing.docker import HELLO, DockerEngine
from rota.testing.echo import Line
from rota.testing.server import Answer, free_port
from rota.testing.tls import self_signed, trusting

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

ECHO = Path(__file__).parent / "echo.py"


class Echo:
    """An app of one TCP service, and nothing else."""

    def __init__(self, server: ServerAt, name: str, port: int | None = None, **entry: Any) -> None:
        self.server = server
        self.name = name
        self.port = port or free_port()
        self.entry = {"listen": self.port, "port": 7, **entry}
        self.directory = server.directory / f"source-{name}"
        self.directory.mkdir()
        shutil.copy(ECHO, self.directory / "echo.py")

    async def deploy(self, env: dict[str, str] | None = None, **keys: Any) -> Answer:
        file = {
            "name": self.name,
            "replicas": 2,
            "command": [sys.executable, "echo.py"],
            "drain": {"timeout": "1s"},
            "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
            "ports": [self.entry],
            **keys,
        }
        (self.directory / "rota.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
        return await self.server.cli("deploy", "--json", cwd=self.directory)

    async def open(self, **asked: Any) -> Line:
        return await Line.open(self.port, **asked)

    @asynccontextmanager
    async def users(self, **asked: Any) -> AsyncIterator[list[str]]:
        """One connection after the other, each answered and ended, as fast as they come; who answered."""
        met: list[str] = []
        done = asyncio.Event()

        async def come() -> None:
            while not done.is_set():
                line = await self.open(**asked)
                met.append(line.of)
                assert await line.echo() == b"ping\n"
                line.close()
                await asyncio.sleep(0.005)

        coming = [asyncio.create_task(come()) for _ in range(2)]
        try:
            yield met
        finally:
            done.set()
            await asyncio.gather(*coming)

    @asynccontextmanager
    async def patient_users(self) -> AsyncIterator[Coming]:
        """The same, who try again when nobody answers."""
        seen = Coming()

        async def come() -> None:
            while not seen.done:
                again, before = seen.again, seen.killed
                answered = await self._answered()
                seen.again += answered and before
                seen.lost += not answered and not before and not seen.killed
                seen.lost_again += not answered and again > 0
                seen.refused += not answered
                await asyncio.sleep(0.005)

        coming = [asyncio.create_task(come()) for _ in range(2)]
        try:
            yield seen
        finally:
            seen.done = True
            await asyncio.gather(*coming)

    async def _answered(self) -> bool:
        try:
            line = await self.open()
        except (OSError, EOFError):
            return False
        try:
            return await line.echo() == b"ping\n"
        finally:
            line.close()


@dataclass
class Coming:
    """How it goes for them. ``killed`` is set with HAProxy's kill. Connections are ``lost`` that failed before it,
    ``refused`` are all that failed; answered ``again`` are those that were begun after it, and ``lost_again`` what
    failed though it was begun after one of those."""

    done: bool = False
    killed: bool = False
    lost: int = 0
    refused: int = 0
    again: int = 0
    lost_again: int = 0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[ServerAt]:
    async with ServerAt(Processes()) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def echo(server: ServerAt) -> Echo:
    app = Echo(server, "echo")
    succeeded(await app.deploy())
    return app


def replica_of(line: Line) -> str:
    return line.of.split()[0]


@pytest.mark.feature("V7", "R1", "R2")
async def test_connections_stay_to_the_deadline_of_a_restart_and_new_ones_always_come_in(echo: Echo) -> None:
    kept = [await echo.open() for _ in range(6)]
    served = {replica_of(line) for line in kept}
    shown = await echo.server.replicas(echo.name)
    assert {replica["id"]: replica["open"] for replica in shown} == dict.fromkeys(served, 3)
    counted = json.loads((await echo.server.ok("stats", echo.name, "--json")).out)["replicas"]
    assert {replica["id"]: replica["connections"]["tcp"] for replica in counted} == dict.fromkeys(served, 3)
    assert f"tcp://127.0.0.1:{echo.port}" in (await echo.server.ok("ls")).out
    plan = json.loads((await echo.server.ok("plan", "restart", echo.name, "--json")).out)
    shown = {entry["replica"]: (entry["open"], entry["connections"]["tcp"]) for entry in plan["open"]}
    assert shown == dict.fromkeys(served, (3, 3))
    async with echo.users() as met:
        restart = await echo.server.begin_cli("restart", echo.name, "--json")
        first = await draining(echo)
        assert {await line.echo() for line in kept} == {b"ping\n"}
        before = len(met)
        out, err = await restart.communicate()
        assert restart.returncode == 0, (out, err)
    for line in kept:
        assert await line.ended()
    assert first in served
    assert {name.split()[0] for name in met[before:]} - served, "nobody met a new replica"
    rollout = json.loads(out)
    receipt = rollout["receipt"]
    assert (receipt["cut"], receipt["failed"], receipt["requests"], receipt["complete"]) == (6, 0, 0, True)
    assert receipt["connections"] >= len(met) - before
    said = (await echo.server.ok("rollout", "show", rollout["id"])).out
    assert f"0 failed of 0 requests and {receipt['connections']:,} TCP connections" in said
    assert "cut 6" in said


async def draining(echo: Echo) -> str:
    """The first replica that is, once nothing but the three kept lines is open to it."""

    async def holds() -> str:
        found = await echo.server.replicas(echo.name)
        going = (replica["id"] for replica in found if replica["phase"] == "draining" and replica["open"] == 3)
        return next(going, "")

    return await echo.server.until(holds, 30.0)


@pytest.mark.feature("V7", "R4")
async def test_a_daemon_that_is_killed_in_a_restart_costs_no_connection(echo: Echo) -> None:
    async with echo.users() as met:
        restart = await in_the_middle_of_a_restart(echo)
        await echo.server.kill()
        until_then = len(met)

        async def served_by_haproxy_alone() -> bool:
            return len(met) > until_then + 50

        await echo.server.until(served_by_haproxy_alone)
        await echo.server.start()
        ended = await end_of(echo, restart)
    assert ended["phase"] == "succeeded", ended
    receipt = ended["receipt"]
    assert (receipt["failed"], receipt["cut"], receipt["gaps"], receipt["complete"]) == (0, 0, [], True)


@pytest.mark.feature("V7", "R4")
async def test_a_haproxy_that_is_killed_in_a_restart_costs_what_came_in_the_gap_that_is_told(echo: Echo) -> None:
    async with echo.patient_users() as seen:
        restart = await in_the_middle_of_a_restart(echo)
        seen.killed = True
        echo.server.kill_child("haproxy")
        ended = await end_of(echo, restart)

        async def served_again() -> bool:
            return seen.again > 50

        await echo.server.until(served_again)
    assert (seen.lost, seen.lost_again) == (0, 0)
    assert seen.refused
    assert ended["phase"] == "succeeded", ended
    receipt = ended["receipt"]
    assert not receipt["complete"]
    (gap,) = [gap for gap in receipt["gaps"] if gap["reason"] == "HAProxy was not running"]
    assert gap["seconds"] > 0


async def in_the_middle_of_a_restart(echo: Echo) -> str:
    """The rollout, once its first new replica serves."""
    await echo.server.ok("restart", echo.name, "--detach", "--delay", "1s")
    newest = (await echo.server.get(f"/api/v1/rollouts?app={echo.name}&limit=1"))["rollouts"][0]["id"]

    async def begun() -> bool:
        steps = (await echo.server.get(f"/api/v1/rollouts/{newest}"))["steps"]
        return any(step["step"] == "EnableServer" for step in steps)

    await echo.server.until(begun)
    return str(newest)


async def end_of(echo: Echo, rollout: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any]:
        found: dict[str, Any] = await echo.server.get(f"/api/v1/rollouts/{rollout}")
        return found if found["finished_at"] else {}

    return await echo.server.until(ended, 60)


@pytest.mark.feature("V7")
async def test_apps_share_a_port_by_name_and_no_handshake_fails_while_they_restart(
    server: ServerAt, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pems = tmp_path_factory.mktemp("pems")
    port, hosts = free_port(), ["one.example.org", "two.example.org"]
    files = {host: self_signed(pems, host) for host in hosts}
    client: ssl.SSLContext = trusting(*files.values())
    apps = [Echo(server, host.partition(".")[0], port, sni=[host]) for host in hosts]
    for app, host in zip(apps, hosts, strict=True):
        succeeded(await app.deploy(env={"ECHO_TLS": str(files[host])}, replicas=1))
    first, second = apps
    async with first.users(tls=client, name=hosts[0]) as of_first, second.users(tls=client, name=hosts[1]) as of_second:
        receipts = [succeeded(await server.cli("restart", app.name, "--json"))["receipt"] for app in apps]
    assert [receipt["failed"] for receipt in receipts] == [0, 0]
    assert {name.partition("-")[0] for name in of_first} == {"one"}
    assert {name.partition("-")[0] for name in of_second} == {"two"}
    assert all(len(set(names)) == 2 for names in (of_first, of_second))
    refused = await Echo(server, "three", port, sni=["three.example.org", hosts[0]]).deploy()
    assert refused.code == 3
    assert "rota.yaml:13:3: the name one.example.org on port" in refused.err
    for app in apps:
        await server.ok("remove", app.name, "--yes")
    with pytest.raises(ConnectionRefusedError):
        await Line.open(port)


@pytest.mark.feature("V7")
async def test_a_port_that_is_not_to_be_had_is_refused_at_its_line(server: ServerAt, echo: Echo) -> None:
    other = Echo(server, "other", echo.port)
    for listen, code, said in [
        (echo.port, 3, f"rota.yaml:10:11: port {echo.port} belongs to the app 'echo'; give 'other' another one"),
        (server.http_port, 3, f"rota.yaml:10:11: ports.listen: {server.http_port} is the HTTP frontend's"),
        (server.api_port, 3, f"rota.yaml:10:11: ports.listen: {server.api_port} is the API's"),
        (20123, 3, "rota.yaml:10:11: ports.listen: 20123 is among those that replicas are given (--ports)"),
    ]:
        other.entry["listen"] = listen
        answer = await other.deploy()
        assert (answer.code, said in answer.err) == (code, True), answer.err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other.entry["listen"] = port
        answer = await other.deploy()
        assert answer.code == 1
        assert f"another program listens on 127.0.0.1:{port}; end what has the port" in answer.err
    other.entry = {"listen": free_port(), "port": 7, "accept_proxy": True}
    answer = await other.deploy()
    assert answer.code == 3
    assert "accept_proxy: no proxy is believed here; name them: rota serve --trusted-proxies" in answer.err


@pytest.mark.feature("V7")
async def test_a_new_release_tells_its_replicas_who_the_user_is(echo: Echo) -> None:
    """Another pool, by a reload, under connections."""
    echo.entry |= {"proxy_protocol": "v1"}
    async with echo.users() as met:
        rollout = succeeded(await echo.deploy(env={"ECHO_TOLD": "1"}))
    assert rollout["receipt"]["failed"] == 0
    assert {name.split()[1] for name in met} == {"-", "PROXY"}
    line = await echo.open()
    assert line.of.split()[1:4] == ["PROXY", "TCP4", "127.0.0.1"]
    line.close()


@pytest.mark.full
@pytest.mark.feature("V7")
async def test_containers_have_tcp_services_as_processes_do(docker_engine: DockerEngine) -> None:
    async with ServerAt(Containers(docker_engine)) as server:
        app = Echo(server, "boxed", proxy_protocol="v1")
        app.directory.chmod(0o755)  # another user reads it in there
        boxed = {"image": HELLO, "command": ["python3", "/srv/echo.py"], "volumes": [f"{app.directory}:/srv:ro"]}
        succeeded(await app.deploy(env={"ECHO_TOLD": "1"}, **boxed))
        kept = await app.open()
        async with app.users() as met:
            receipt = succeeded(await server.cli("restart", app.name, "--json"))["receipt"]
        assert await kept.ended()
        assert (receipt["failed"], receipt["cut"]) == (0, 1)
        assert len({name.split()[0] for name in met}) > 2
        assert {name.split()[1] for name in met} == {"PROXY"}
