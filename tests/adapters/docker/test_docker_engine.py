"""Engines that are not there, come back, or speak another version: what the docker runtime makes of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from aiohttp import web
from tests.adapters.docker.served import NOWHERE, client, serving

from rota.adapters.clock import SystemClock
from rota.adapters.inturn import InTurn
from rota.adapters.runtime.docker import DockerRuntime, remnants, watch
from rota.adapters.runtime.docker.client import Client, EngineLost, Refused
from rota.adapters.runtime.docker.images import Images
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.network import OwnNetwork
from rota.adapters.runtime.docker.pins import Pins
from rota.adapters.runtime.docker.reruns import Reruns
from rota.adapters.runtime.docker.starts import Starts
from rota.adapters.runtime.docker.table import Table
from rota.adapters.runtime.docker.watch import Watch
from rota.core.errors import Missing, StepFailed, UsageError
from rota.core.observation import ObservedReplica, RunState
from rota.testing.dock import Dock, box_spec, dock
from rota.testing.docker import DockerEngine, docker_engine
from rota.testing.machine import start_order, until


@pytest.fixture(params=["live-restore", "plain"])
def own_engine(request: pytest.FixtureRequest, component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    """One that a test may end."""
    component("docker-engine")
    with docker_engine(live_restore=request.param == "live-restore") as engine:
        yield engine


async def told_of_the_loss(box: Dock) -> bool:
    try:
        await box.runtime.observe()
    except StepFailed as lost:
        return "does not run; start it (systemctl start docker)" in lost.message
    return False


async def there_again(box: Dock) -> bool:
    try:
        await box.runtime.observe()
    except StepFailed:
        return False
    return True


async def test_an_engine_that_is_stopped_and_started_is_taken_over_again(own_engine: DockerEngine) -> None:
    async with dock(own_engine) as box:
        before = await box.started(box_spec())
        await asyncio.to_thread(own_engine.stop)
        await until(lambda: told_of_the_loss(box))
        # A start that falls into the outage is none of the replica's failures.
        waiting = asyncio.create_task(box.runtime.start(start_order(2, box_spec())))
        box.woken.clear()
        await asyncio.to_thread(own_engine.start)
        await until(lambda: there_again(box))
        assert "web" in box.woken
        await asyncio.wait_for(waiting, 30)
        after, second = await box.replica(), await box.replica("web-2")
        assert after is not None
        assert second is not None
        assert second.state is RunState.RUNNING
        if own_engine.live_restore:
            assert after == before
        else:
            assert after.state is RunState.EXITED
            assert ended_by_others(after)
        await own_engine.cli("rm", "-f", box.name("web-2"))

        async def gone() -> bool:
            return await box.replica("web-2") is None

        await until(gone)  # by the events of the new connection


async def test_what_ends_with_a_killed_engine_is_seen_when_it_is_back(own_engine: DockerEngine) -> None:
    async with dock(own_engine) as box:
        before = await box.started(box_spec())
        await asyncio.to_thread(own_engine.kill)
        await until(lambda: told_of_the_loss(box))
        if own_engine.live_restore:
            pid = box.runtime.namespace_of(before.id)
            assert pid is not None
            os.kill(pid, 9)
        await asyncio.to_thread(own_engine.start)
        await until(lambda: there_again(box))

        async def exited() -> bool:
            seen = await box.replica()
            return seen is not None and seen.exit is not None and ended_by_others(seen)

        await until(exited)


def ended_by_others(seen: ObservedReplica) -> bool:
    """No matter how it took it: an app that ends properly with its engine did nothing wrong."""
    return seen.told_to_stop or (seen.exit is not None and seen.exit.unwatched)


async def test_an_end_is_seen_before_the_engine_says_a_word(docker_engine: DockerEngine) -> None:
    async with dock(docker_engine) as box:
        first = await box.started(box_spec())
        pid = box.runtime.namespace_of(first.id)
        assert pid is not None

        async def exited() -> bool:
            seen = await box.replica()
            return seen is not None and seen.state is RunState.EXITED

        async def explained() -> bool:
            seen = await box.replica()
            return seen is not None and seen.exit is not None

        os.kill(docker_engine.pid, signal.SIGSTOP)
        try:
            os.kill(pid, signal.SIGKILL)
            await until(exited)
            assert not await explained()
        finally:
            os.kill(docker_engine.pid, signal.SIGCONT)
        await until(explained)
        seen = await box.replica()
        assert seen is not None
        assert seen.exit is not None
        assert seen.exit.signal == signal.SIGKILL
        await box.runtime.restart(start_order(1, box_spec()))
        again = await box.replica()
        assert again is not None
        assert (again.state, again.exit) == (RunState.RUNNING, None)
        assert again.run != first.run


async def test_no_engine_is_told_with_the_way_out(tmp_path: Path) -> None:
    runtime = DockerRuntime(tmp_path, "0" * 32, SystemClock(tmp_path), host=f"unix://{tmp_path}/none.sock")
    with pytest.raises(
        Missing, match=r"none.sock does not run; start it \(systemctl start docker\), or set DOCKER_HOST"
    ):
        await runtime.open()
    with pytest.raises(StepFailed):
        await runtime.observe()


async def test_a_socket_that_lets_nobody_in_is_told(docker_engine: DockerEngine, tmp_path: Path) -> None:
    runtime = DockerRuntime(tmp_path, "0" * 32, SystemClock(tmp_path), host=docker_engine.host)
    os.seteuid(65534)
    try:
        with pytest.raises(Missing, match="permission denied on its socket"):
            await runtime.open()
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    "host", ["npipe:////./pipe/docker_engine", "/var/run/docker.sock", "unix://", "SSH://host", "fd://"]
)
def test_an_engine_that_cannot_be_used_from_here_is_refused(host: str) -> None:
    with pytest.raises(UsageError, match="write unix:///path, tcp://address:port or ssh://user@host"):
        Client(host, NOWHERE)


class FakeEngine:
    """Answers any request with what it was asked."""

    def __init__(self) -> None:
        self.api_version = "1.52"
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(request.path)
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": self.api_version})
        if request.path.endswith("/none"):
            return web.json_response({"message": "no such thing"}, status=404)
        if request.path.endswith("/broken"):
            return web.Response(body=b'{"message": "error mounting /x"}', status=500, content_type="application/json")
        return web.json_response({"path": request.path})


@asynccontextmanager
async def fake_engine(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[FakeEngine, str]]:
    engine = FakeEngine()
    async with serving(engine.answer, context) as host:
        yield engine, host


async def test_the_engines_own_version_is_spoken_and_again_after_its_upgrade() -> None:
    async with fake_engine() as (engine, host), client(host) as asked:
        assert await asked.get("info") == {"path": "/v1.52/info"}
        engine.api_version = "1.41"
        await asked.negotiate()
        assert await asked.get("info") == {"path": "/v1.41/info"}


async def test_an_engine_that_is_too_old_is_refused() -> None:
    async with fake_engine() as (engine, host):
        engine.api_version = "1.40"
        with pytest.raises(Missing, match=r"speaks API 1\.40, 1\.41 is needed"):
            async with client(host):
                pass


async def test_a_refusal_and_a_loss_are_two_things() -> None:
    async with fake_engine() as (_, host), client(host) as asked:
        with pytest.raises(Refused, match="no such thing") as refused:
            await asked.get("none")
        assert refused.value.http_status == 404
        assert not await asked.head("none", {})
        assert await asked.head("some", {})
        with pytest.raises(Refused, match="answers 500") as unknown:
            await asked.head("broken", {})
        assert unknown.value.http_status == 500
    gone = Client(host, NOWHERE)
    with pytest.raises(Missing):
        await gone.open()
    with pytest.raises(EngineLost, match="does not run"):
        await gone.get("info")
    await gone.close()


@pytest.fixture(scope="module")
def certificates(component: Callable[[str], Path]) -> Iterator[Path]:
    """``ca.pem``, ``cert.pem`` and ``key.pem``, as docker reads them; the same pair for both ends."""
    openssl = component("openssl")
    with tempfile.TemporaryDirectory(prefix="rota-") as place:
        made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-keyout", f"{place}/key.pem", "-out", f"{place}/cert.pem"]
        subprocess.run([openssl, "req", "-x509", *made, *names, *files], check=True, capture_output=True)
        Path(place, "ca.pem").write_bytes(Path(place, "cert.pem").read_bytes())
        yield Path(place)


async def test_an_engine_behind_tls_is_asked_with_a_certificate(
    certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    context.load_cert_chain(certificates / "cert.pem", certificates / "key.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    async with fake_engine(context) as (_, host):
        monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
        monkeypatch.setenv("DOCKER_CERT_PATH", str(certificates))
        async with client(host) as asked:
            assert await asked.get("info") == {"path": "/v1.52/info"}
            assert not asked.is_local
            found = await asked.certificates()
            assert [one.about.replace(f"{certificates}/", "") for one in found] == [
                "the certificate ca.pem, by which rota and the Docker engine know each other,",
                "the certificate cert.pem, by which rota and the Docker engine know each other,",
                f"the certificate of the Docker engine at {host}",
            ]
            assert all(abs(one.expires_at - time.time() - 2 * 86400) < 3600 for one in found)
            (certificates / "cert.pem").write_text("none")
            assert len(await asked.certificates()) == 2
        monkeypatch.delenv("DOCKER_TLS_VERIFY")
        with pytest.raises(Missing, match="broke off in the middle of an answer"):
            async with client(host):
                pass


def test_certificates_that_are_not_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"ca\.pem, cert\.pem and key\.pem in .* cannot be used"):
        Client("tcp://127.0.0.1:2376", NOWHERE)


class Babbling:
    """An engine without containers: its first answers about events are ``events``, one a connection; then none come.
    ``since`` is from when on each connection wanted them."""

    def __init__(self, *events: str) -> None:
        self.events = list(events)
        self.lists = 0
        self.since: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        match request.path.rpartition("/")[2]:
            case "version":
                return web.json_response({"ApiVersion": "1.41"})
            case "info":
                return web.json_response({"SystemTime": "2026-11-01T00:00:00Z"})
            case "events" if "until" not in request.query:
                self.since.append(request.query["since"])
                response = web.StreamResponse()
                await response.prepare(request)
                if self.events:
                    await response.write(self.events.pop(0).encode())
                else:
                    await asyncio.sleep(3600)
                return response
            case "events":
                return web.Response(text='{"Action": "die"}\n')
            case _:
                self.lists += 1
                return web.json_response([])


@pytest.mark.parametrize(
    "events", [["<html>\n"], ['{"Action": "start"}\n', '"hello"\n{"timeNano": 1, "Action": "die", "Actor": {}}\n']]
)
async def test_a_watch_outlives_what_it_cannot_read(tmp_path: Path, events: list[str]) -> None:
    engine = Babbling(*events)
    async with serving(engine.answer) as host, client(host) as asked:
        names, clock = Names("0" * 32), SystemClock(tmp_path)
        table = Table(
            asked, names, clock, Reruns(tmp_path / "r.json", InTurn("r")), lambda app: None, lambda replica: None
        )

        troubles = [StepFailed("the disk is full"), KeyError("MemTotal")]

        async def look(info: object) -> None:
            if engine.lists and troubles:
                raise troubles.pop()

        made = Watch(asked, names, table, look, lambda: None)
        await made.open()
        try:

            async def quiet_again() -> bool:
                with suppress(StepFailed):
                    made.check()
                    return not engine.events and not troubles
                return False

            await until(quiet_again)
        finally:
            await made.close()


@asynccontextmanager
async def watched(engine: Babbling, directory: Path, looked: Callable[[], None] = lambda: None) -> AsyncIterator[Watch]:
    """``looked`` is called at each full list."""
    async with serving(engine.answer) as host, client(host) as asked:
        names, clock = Names("0" * 32), SystemClock(directory)
        reruns = Reruns(directory / "r.json", InTurn("r"))
        table = Table(asked, names, clock, reruns, lambda app: None, lambda replica: None)

        async def look(info: object) -> None:
            looked()

        made = Watch(asked, names, table, look, lambda: None)
        await made.open()
        try:
            yield made
        finally:
            await made.close()


async def test_events_are_read_on_from_the_last_one(tmp_path: Path) -> None:
    event = {"timeNano": 5_000_000_007, "Action": "start", "Actor": {"ID": "1", "Attributes": {}}}
    engine = Babbling(f"{json.dumps(event)}\n")
    async with watched(engine, tmp_path):
        await until(lambda: len(engine.since) == 4)  # two streams a connection
    assert engine.since == ["1793491200.000000000"] * 2 + ["5.000000007"] * 2


async def test_all_is_listed_again_though_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Babbling()
    async with watched(engine, tmp_path, lambda: monkeypatch.setattr(watch, "FULL_LIST", 0.02)):
        await until(lambda: engine.lists == 3)
    assert len(engine.since) == 2, "over the connection that there was"


class Clinging:
    """An engine with one container, which it fails to remove ``refusals`` times: it is Dead from the first time on, as
    Docker leaves it when its files are still mounted somewhere."""

    def __init__(self, names: Names, refusals: int) -> None:
        labels = Labels.of(start_order(1, box_spec()), "10.0.0.2")
        self.replica = labels.replica
        self.refusals = refusals
        self.asked = 0
        self._state = {
            "Status": "exited",
            "Running": False,
            "Paused": False,
            "Dead": False,
            "Pid": 0,
            "ExitCode": 0,
            "OOMKilled": False,
            "StartedAt": "2026-11-01T00:00:00Z",
            "FinishedAt": "2026-11-01T00:00:01Z",
        }
        self._container = {
            "Id": "1",
            "Name": f"/{names.container(labels.replica)}",
            "Created": "2026-11-01T00:00:00Z",
            "Config": {
                "Labels": labels.written(names.server_id),
                "Env": [f"{name}={value}" for name, value in labels.variables.items()],
            },
            "HostConfig": {},
            "NetworkSettings": {"Networks": {}},
        }

    async def answer(self, request: web.Request) -> web.Response:
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.41"})
        if self.asked > self.refusals:
            return web.json_response({"message": "No such container: 1"}, status=404)
        if request.method == "DELETE":
            self.asked += 1
            self._state |= {"Status": "dead", "Dead": True}
            if self.asked > self.refusals:
                return web.Response(status=204)
            return web.json_response({"message": "unlinkat /x/merged: device or resource busy"}, status=500)
        if request.path.endswith("/containers/json"):
            return web.json_response([{"Id": "1"}])
        return web.json_response({**self._container, "State": self._state})


async def test_what_the_engine_cannot_remove_is_gone_all_the_same_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replica has ended, and its slot waits for nothing; what is left is named until it is gone."""
    monkeypatch.setattr(remnants, "_FIRST_WAIT", 0.01)
    names, gone = Names("0" * 32), list[str]()
    engine = Clinging(names, refusals=4)
    async with serving(engine.answer) as host, client(host) as asked:
        reruns = Reruns(tmp_path / "r.json", InTurn("r"))
        table = Table(asked, names, SystemClock(tmp_path), reruns, lambda app: None, gone.append)
        await table.refresh("1")
        assert table.entry(engine.replica) is not None
        network = OwnNetwork(asked, names, tmp_path / "a.json", lambda: 0.0)
        images = Images(asked, names, Pins(tmp_path / "i.json", InTurn("i")), lambda app: None)
        await Starts(asked, names, network, images, table).discard("1")
        assert table.entry(engine.replica) is None
        assert gone == [engine.replica]
        assert table.strangers == (), "every container is Dead for a moment while it is removed"
        await table.list_all()
        await until(lambda: table.strangers)
        (said,) = table.strangers
        assert said.app == "web"
        assert "has ended, and the engine cannot remove what is left of it" in said.said
        assert "device or resource busy" in said.said
        await until(lambda: not table.strangers)
        assert engine.asked == 5
        assert gone == [engine.replica]
        await table.close()


async def test_what_is_left_is_let_go_when_somebody_else_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remnants, "_FIRST_WAIT", 0.01)
    names = Names("0" * 32)
    engine = Clinging(names, refusals=10**6)
    async with serving(engine.answer) as host, client(host) as asked:
        table = Table(
            asked,
            names,
            SystemClock(tmp_path),
            Reruns(tmp_path / "r.json", InTurn("r")),
            lambda app: None,
            lambda replica: None,
        )
        with pytest.raises(Refused, match="busy"):
            await asked.delete("containers/1")
        await table.refresh("1")
        await until(lambda: table.strangers)
        engine.refusals = 0
        await table.refresh("1")
        assert table.strangers == ()
        await table.close()


async def test_an_engine_that_ends_in_the_middle_of_an_answer_is_told_with_the_way_out() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.41"})
        response = web.StreamResponse()
        if request.path.endswith("/events"):
            await response.prepare(request)
        assert request.transport is not None
        request.transport.abort()
        return response

    async def follow(asked: Client) -> None:
        async with asked.stream("GET", "events", {}) as events:
            async for _ in events:
                pass

    said = r"broke off in the middle of an answer; if it has ended, start it \(systemctl start docker\)"
    async with serving(answer) as host, client(host) as asked:
        with pytest.raises(EngineLost, match=said):
            await asked.get("info")
        with pytest.raises(EngineLost, match=said):
            await follow(asked)


async def test_an_answer_that_is_no_json_is_not_taken_for_a_no() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.41"})
        return web.Response(text="<html>", content_type="application/json")

    async with serving(answer) as host, client(host) as asked:
        with pytest.raises(EngineLost, match="gives an answer that is no JSON"):
            await asked.get("containers/1/json")
