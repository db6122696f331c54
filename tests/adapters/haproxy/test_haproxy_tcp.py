"""TCP services through a real HAProxy: who gets a connection, what is counted, and what becomes of it in a hand-off, a
reload and a crash."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from rota.adapters.balancer.haproxy import balancer as adapter
from rota.adapters.balancer.haproxy.access import HaproxyAccessLog
from rota.adapters.balancer.haproxy.newest import LOG
from rota.core.backend import Backend
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Counters, Open, ServerState
from rota.core.tcp import Listener
from rota.testing.echo import EchoServer, Line
from rota.testing.haproxy import APP, HOST, Rig, free_port, pool, running_rig, until
from rota.testing.tls import self_signed, serving, trusting

A, B, C = ReplicaId("hello-1"), ReplicaId("hello-2"), ReplicaId("hello-3")
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"  # version 2, PROXY, TCP over IPv4, 12 bytes of addresses


@dataclass
class Service:
    """One app's, with a listener of its own, and HTTP beside it."""

    rig: Rig
    app: str = APP
    port: int = field(default_factory=free_port)
    sends: str = ""
    check: str = "/health"
    servers: dict[ReplicaId, EchoServer] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    behind_proxy: bool = False

    @property
    def listener(self) -> Listener:
        return Listener(self.port, names=self.names, behind_proxy=self.behind_proxy)

    @property
    def pool(self) -> Backend:
        return replace(pool(self.check, app=self.app, interval=60), tcp=((self.port, self.sends, 3600.0),))

    async def prepare(self, *listeners: Listener) -> None:
        await self.rig.balancer.prepare(self.pool, (f"{self.app}.localhost",), listeners or (self.listener,))

    async def add(self, replica: ReplicaId, server: EchoServer) -> EchoServer:
        web = await self.rig.web(replica)
        self.servers[replica] = await server.start()
        ports = ((self.port, server.port),)
        await self.rig.balancer.enable(replica, self.app, self.pool.name, web.address, 100, ports)
        return server

    async def lines(self, count: int) -> list[Line]:
        return [await Line.open(self.port) for _ in range(count)]

    async def counted(self) -> Counters:
        """All of the app's backends."""
        seen = await self.rig.see(self.app)
        return sum((row.counters for row in seen.rows if row.replica is None), Counters())

    async def open(self, replica: ReplicaId) -> int:
        return (await self.rig.see(self.app)).servers[replica].open

    async def end(self) -> None:
        for server in self.servers.values():
            await server.stop()


@pytest.fixture
async def service(rig: Rig) -> AsyncIterator[Service]:
    service = Service(rig)
    await service.prepare()
    yield service
    await service.end()


@contextlib.contextmanager
def taken(port: int) -> Iterator[None]:
    """Another program has it."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        yield


async def who_answers(service: Service) -> str:
    """A new connection, which has ended when this returns."""
    line = await Line.open(service.port)
    line.close()
    await until(lambda: service.rig.idle(ReplicaId(line.of)), 2)
    return line.of


@pytest.mark.feature("V7")
async def test_a_connection_reaches_a_replica_that_speaks_first_and_is_counted(service: Service) -> None:
    await service.add(A, EchoServer(A))
    line = await Line.open(service.port)
    assert (line.of, await line.echo()) == (A, b"ping\n")
    assert (await service.rig.see()).listeners == {service.listener}
    assert await service.open(A) == 1
    assert (await service.rig.balancer.connections()).open == {A: Open(tcp=1)}
    line.close()
    await until(lambda: service.rig.idle(A), 2)
    assert await service.counted() == Counters(connections=1)
    rows = {row.replica: row.counters for row in (await service.rig.see()).rows if row.counters.connections}
    assert rows == {A: Counters(connections=1), None: Counters(connections=1)}
    assert (await service.rig.client().ask())[0] == 200
    assert (await service.counted()).requests == 1


@pytest.mark.feature("V7")
async def test_a_replica_leaves_all_its_backends_together_and_what_is_open_goes_on(service: Service) -> None:
    for replica in (A, B):
        await service.add(replica, EchoServer(replica))
    lines = await service.lines(4)
    assert sorted(line.of for line in lines) == [A, A, B, B]
    await service.rig.balancer.disable(A)
    seen = (await service.rig.see()).servers
    assert (seen[A].state, seen[A].up, seen[A].open, seen[B].state) == (ServerState.MAINT, False, 2, ServerState.READY)
    lines += await service.lines(4)
    assert {line.of for line in lines[4:]} == {B}
    assert {(await service.rig.client().ask())[1] for _ in range(4)} == {B}
    assert {await line.echo() for line in lines} == {b"ping\n"}
    await service.rig.balancer.cut(A, 1)
    await until(lambda: _is_open(service, A, 1), 2)
    await service.rig.balancer.cut(A)
    for line in lines[:4]:
        if line.of == A:
            assert await line.ended()
    await service.rig.balancer.remove(A)
    assert set((await service.rig.see()).servers) == {B}
    assert "hello-1." not in service.rig.settings.config.read_text()
    counted = await service.counted()
    assert (counted.connections, counted.failed) == (8, 0)
    for line in lines:
        line.close()


async def _is_open(service: Service, replica: ReplicaId, count: int) -> bool:
    return await service.open(replica) == count


async def test_a_replica_that_died_costs_no_new_connection(service: Service) -> None:
    for replica in (A, B):
        await service.add(replica, EchoServer(replica))
    await service.servers[A].stop()
    lines = await service.lines(8)
    assert {line.of for line in lines} == {B}
    counted = await service.counted()
    assert (counted.connections, counted.failed) == (8, 0)
    assert counted.redispatched > 0
    for line in lines:
        line.close()


async def test_a_connection_that_nobody_takes_has_failed(service: Service) -> None:
    await service.add(A, EchoServer(A))
    await service.rig.balancer.disable(A)
    with pytest.raises((OSError, EOFError)):
        await Line.open(service.port)
    counted = await service.counted()
    assert (counted.connections, counted.failed) == (1, 1)


async def test_a_connection_lives_through_reloads_and_delays_its_own_replica_alone(service: Service) -> None:
    for replica in (A, B):
        await service.add(replica, EchoServer(replica))
    first, second = await service.lines(2)
    service.check = "/health/2"
    await service.prepare()
    assert {await first.echo(), await second.echo()} == {b"ping\n"}
    await until(lambda: _held(service, first.of), 2)
    second.close()
    await until(lambda: service.rig.idle(ReplicaId(second.of)), 2)
    seen = (await service.rig.see()).servers[ReplicaId(first.of)]
    assert (seen.open, seen.old_holders) == (1, 0)
    assert (await service.rig.balancer.connections()).open == {first.of: Open(tcp=1)}
    await service.rig.another_daemon()
    assert await service.open(ReplicaId(first.of)) == 1
    await service.rig.balancer.disable(ReplicaId(first.of))
    await service.rig.balancer.cut(ReplicaId(first.of))
    assert await first.ended()
    await until(lambda: service.rig.settled(), 5)
    counted = await service.counted()
    assert (counted.connections, counted.failed) == (2, 0)


async def _held(service: Service, replica: str) -> bool:
    seen = (await service.rig.see()).servers[ReplicaId(replica)]
    return (seen.open, seen.old_holders) == (1, 0)


async def test_connections_come_through_while_haproxy_reloads(service: Service) -> None:
    await service.add(A, EchoServer(A))
    done = asyncio.Event()

    async def connect() -> int:
        count = 0
        while not done.is_set():
            (await Line.open(service.port)).close()
            count += 1
        return count

    clients = [asyncio.create_task(connect()) for _ in range(4)]
    for number in range(4):
        service.check = f"/health/{number}"
        await service.prepare()
    done.set()
    assert sum(await asyncio.gather(*clients)) > 20
    assert (await service.counted()).failed == 0


@pytest.mark.parametrize(("sends", "head"), [("v1", b"PROXY TCP4 127.0.0.1 127.0.0.1 "), ("v2", V2)])
async def test_a_replica_is_told_the_user_s_address(rig: Rig, sends: str, head: bytes) -> None:
    service = Service(rig, sends=sends)
    await service.prepare()
    server = await service.add(A, EchoServer(A, head=len(head)))
    line = await Line.open(service.port)
    assert line.of == A
    assert server.heard[-1] == head
    line.close()
    await service.end()


@pytest.mark.parametrize(
    ("trusted", "user"), [("127.0.0.0/8", b"PROXY TCP4 192.0.2.7 "), ("10.0.0.0/8", b"PROXY TCP4 127.0.0.1 ")]
)
async def test_a_proxy_is_believed_when_it_is_trusted(trusted: str, user: bytes) -> None:
    async with running_rig("system", trusted=(trusted,)) as rig:
        service = Service(rig, sends="v1", behind_proxy=True)
        await service.prepare()
        server = await service.add(A, EchoServer(A, head=len(user)))
        line = await Line.open(service.port, ahead=b"PROXY TCP4 192.0.2.7 192.0.2.8 40000 25\r\n")
        assert server.heard[-1] == user
        line.close()
        await service.end()


async def test_a_listener_that_is_no_more_wanted_closes_and_another_opens(service: Service) -> None:
    await service.add(A, EchoServer(A))
    with contextlib.closing(await Line.open(service.port)) as line:
        service.port, before = free_port(), service.port
        await service.prepare()
        assert (await service.rig.see()).listeners == {service.listener}
        with pytest.raises(ConnectionRefusedError):
            await Line.open(before)
        assert await line.echo() == b"ping\n"
        await service.add(B, EchoServer(B))
        await service.rig.balancer.route(APP, {service.pool.name: 1})
        assert await who_answers(service) == B
        assert await service.open(A) == 1
    await service.rig.balancer.unroute(APP)
    assert await service.rig.balancer.observe() == {}
    with pytest.raises(ConnectionRefusedError):
        await Line.open(service.port)


async def test_a_port_in_use_is_refused_and_the_file_stays_as_it_is(service: Service) -> None:
    await service.add(A, EchoServer(A))
    text = service.rig.settings.config.read_text()
    other = Listener(free_port())
    with taken(other.port):
        said = f"another program listens on {other.place}"
        assert await service.rig.balancer.refusal(APP, [service.listener, other]) == said
        with pytest.raises(StepFailed, match=said):
            await service.prepare(service.listener, other)
    assert service.rig.settings.config.read_text() == text
    assert await service.rig.balancer.refusal(APP, [service.listener, other]) == ""
    nobody_s = Listener(service.port + 1, "192.0.2.1")
    assert "nobody can listen on 192.0.2.1:" in await service.rig.balancer.refusal(APP, [nobody_s])


@pytest.mark.full
async def test_a_port_that_is_taken_just_then_leaves_a_file_to_start_from(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.add(A, EchoServer(A))
    monkeypatch.setattr("rota.adapters.balancer.haproxy.worker._RELOAD_DEADLINE", 2.0)
    monkeypatch.setattr(adapter, "not_bindable", lambda listeners, running: "")
    other = Listener(free_port())
    with taken(other.port):
        with pytest.raises(StepFailed, match="did not take the new file"):
            await service.prepare(service.listener, other)
        seen = await service.rig.see()
        assert seen.listeners == {service.listener}
        await until(lambda: _accepts(service), 5)  # a HAProxy that cannot bind has the other pause meanwhile
        assert await who_answers(service) == A
        os.kill(service.rig.launcher.pid, signal.SIGKILL)
        await until(lambda: _another(service, seen.process), 5)
        await until(service.rig.balancer.pids, 5)  # its master answers a little later
    await service.prepare(service.listener, other)
    assert (await service.rig.see()).listeners == {service.listener, other}


async def _accepts(service: Service) -> bool:
    try:
        (await Line.open(service.port)).close()
    except ConnectionRefusedError:
        return False
    return True


async def test_a_port_that_was_taken_before_the_reload_costs_no_reload_of_others(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.add(A, EchoServer(A))
    real, asked = adapter.not_bindable, []

    def late(listeners: Sequence[Listener], running: Collection[str]) -> str:
        asked.append(listeners)
        return real(listeners, running) if len(asked) > 1 else ""

    monkeypatch.setattr(adapter, "not_bindable", late)
    other = Listener(free_port())
    with taken(other.port):
        with pytest.raises(StepFailed, match="another program has taken a port meanwhile"):
            await service.prepare(service.listener, other)
        assert await who_answers(service) == A
        assert (await service.rig.see()).listeners == {service.listener}
    await service.prepare(service.listener, other)
    assert (await service.rig.see()).listeners == {service.listener, other}


async def _another(service: Service, process: str | None) -> bool:
    return (await service.rig.see()).process not in (None, process)


@pytest.mark.full
async def test_haproxy_starts_without_the_port_that_somebody_took_meanwhile(service: Service) -> None:
    await service.add(A, EchoServer(A))
    await service.rig.balancer.close()
    await service.rig.launcher.close()
    with taken(service.port):
        service.rig.launcher = type(service.rig.launcher)(service.rig.settings.directory / "haproxy.log")
        await service.rig.another_daemon()
        assert (await service.rig.client().ask())[0] == 200
        assert (await service.rig.see()).listeners == frozenset()
    await service.prepare()
    assert await who_answers(service) == A


async def test_a_daemon_that_runs_has_haproxy_start_without_a_port_that_was_lost(service: Service) -> None:
    await service.add(A, EchoServer(A))
    launcher = service.rig.launcher
    await launcher.close()
    with taken(service.port):
        launcher._task = None
        await launcher.ensure(service.rig.settings.argv(), {})
        await until(lambda: service.rig.balancer.answering(), 10)
        assert (await service.rig.client().ask())[0] == 200
        assert (await service.rig.see()).listeners == frozenset()
        with pytest.raises(StepFailed, match="another program listens"):
            await service.prepare()
    await service.prepare()
    assert await who_answers(service) == A


async def test_a_half_enabled_replica_is_not_shown_as_ready_and_enabling_it_again_mends_it(service: Service) -> None:
    server = await service.add(A, EchoServer(A))
    part = f"{service.pool.name}.{service.port}/{A}.{service.port}"
    haproxy = service.rig.balancer._haproxy
    await haproxy.tell(f"set server {part} state maint")
    assert (await service.rig.see()).servers[A].state is ServerState.DRAIN
    await haproxy.tell(f"del server {part}", accept=("Server deleted",))
    assert (await service.rig.see()).servers[A].state is ServerState.DRAIN
    address = service.rig.servers[0].address
    await service.rig.balancer.enable(A, APP, service.pool.name, address, 100, ((service.port, server.port),))
    assert (await service.rig.see()).servers[A].state is ServerState.READY
    assert await who_answers(service) == A
    await haproxy.tell(f"set server {part} state maint;del server {part}", accept=("Server deleted",))
    await service.rig.another_daemon()
    assert await who_answers(service) == A


async def test_a_service_that_nobody_answers_says_which(service: Service) -> None:
    quick = replace(service.pool, interval=0.1)
    await service.rig.balancer.prepare(quick, (HOST,), (service.listener,))
    web, server = await service.rig.web(A), await EchoServer(A).start()
    ports = ((service.port, server.port),)
    await service.rig.balancer.enable(A, APP, quick.name, web.address, 100, ports)
    await server.stop()
    await until(lambda: service.rig.down(A), 5)
    assert (await service.rig.see()).servers[A].check == f"port {service.port}: connection refused"


async def test_maintenance_closes_a_service_too(service: Service) -> None:
    await service.add(A, EchoServer(A))
    await service.rig.balancer.maintain(APP, True)
    with pytest.raises((OSError, EOFError)):
        await Line.open(service.port)
    await service.rig.balancer.maintain(APP, False)
    assert await who_answers(service) == A


async def test_apps_share_a_port_by_the_name_that_clients_ask_for(rig: Rig, tmp_path: Path) -> None:
    names = {"one": ("one.example.org",), "two": ("two.example.org", "*.two.example.org")}
    pems = {app: self_signed(tmp_path, host[-1].replace("*", "any")) for app, host in names.items()}
    port = free_port()
    services = {app: Service(rig, app, port, names=host) for app, host in names.items()}
    for app, service in services.items():
        await service.prepare()
        await service.add(ReplicaId(f"{app}-1"), EchoServer(app, tls=serving(pems[app])))
    client = trusting(*pems.values())
    client.check_hostname = False
    asked = ["one.example.org", "ONE.example.org", "two.example.org", "any.two.example.org"]
    lines = [await Line.open(port, tls=client, name=name) for name in asked]
    assert [line.of for line in lines] == ["one", "one", "two", "two"]
    assert {await line.echo() for line in lines} == {b"ping\n"}
    for nobody in ("three.example.org", "a.any.two.example.org", "example.org"):
        with pytest.raises((OSError, EOFError)):
            await Line.open(port, tls=client, name=nobody)
    with pytest.raises((OSError, EOFError)):
        await Line.open(port, ahead=b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(StepFailed, match=r"the name one.example.org on port \d+ already leads to one"):
        await Service(rig, "three", port, names=("one.example.org",)).prepare()
    await rig.balancer.unroute("one")
    with pytest.raises((OSError, EOFError)):
        await Line.open(port, tls=client, name=asked[0])
    assert (await Line.open(port, tls=client, name=asked[2])).of == "two"
    for line in lines:
        line.close()
    for service in services.values():
        await service.end()


async def test_a_pool_without_the_service_gets_none_of_its_connections(service: Service) -> None:
    await service.add(A, EchoServer(A))
    plain = pool("/other", interval=60)
    await service.rig.balancer.prepare(plain, (HOST,), (service.listener,))
    web = await service.rig.web(C)
    await service.rig.balancer.enable(C, APP, plain.name, web.address)
    await service.rig.balancer.route(APP, {service.pool.name: 1, plain.name: 3})
    assert {line.of for line in await service.lines(8)} == {A}
    await service.rig.balancer.route(APP, {plain.name: 1})
    with pytest.raises((OSError, EOFError)):
        await Line.open(service.port)


async def test_each_connection_is_a_line_of_the_access_log_with_its_end(service: Service) -> None:
    log = HaproxyAccessLog(service.rig.settings.directory)

    async def told(count: int) -> list[Any]:
        async def there() -> bool:
            return len(await log.tail(APP, 10)) == count

        await until(there, 5)
        return await log.tail(APP, 10)

    await service.prepare()
    await service.add(A, EchoServer("one"))
    (line,) = await service.lines(1)
    assert await line.echo()
    line.close()
    (entry,) = await told(1)
    assert {name: entry[name] for name in ("app", "protocol", "client", "port", "replica", "retries", "ended")} == {
        "app": APP,
        "protocol": "tcp",
        "client": "127.0.0.1",
        "port": service.port,
        "replica": A,
        "retries": 0,
        "ended": "--",
    }
    assert entry["received"] > 0 < entry["sent"]
    assert entry["total_ms"] >= 0

    (line,) = await service.lines(1)
    assert await line.echo()
    await service.rig.balancer.disable(A)
    await service.rig.balancer.cut(A)
    assert (await told(2))[1]["ended"] == "K-"
    await service.rig.balancer.maintain(APP, True)
    with pytest.raises(EOFError):
        await Line.open(service.port)
    closed = (await told(3))[2]
    assert (closed["replica"], closed["ended"]) == (None, "PR")


async def test_an_app_that_wants_no_log_has_no_line_of_its_connections(service: Service) -> None:
    quiet = replace(service.pool, access_log=False)
    await service.rig.balancer.prepare(quiet, (HOST,), (service.listener,))
    web, server = await service.rig.web(A), await EchoServer("one").start()
    service.servers[A] = server
    await service.rig.balancer.enable(A, APP, quiet.name, web.address, 100, ((service.port, server.port),))
    await service.rig.balancer.route(APP, {quiet.name: 100})
    (line,) = await service.lines(1)
    assert await line.echo()
    line.close()
    await service.rig.client("nobody.localhost").ask()
    written = service.rig.settings.directory / LOG

    async def of_nobody() -> bool:
        return '"app":"-"' in written.read_text(errors="replace")

    await until(of_nobody, 5)
    assert await HaproxyAccessLog(service.rig.settings.directory).tail(APP, 10) == []
