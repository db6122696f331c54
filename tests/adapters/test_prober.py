"""Probes against real listeners: what passes, and in which words the rest fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

import pytest

from rota.adapters.prober import SocketProber
from rota.adapters.prober import listeners as listeners_
from rota.adapters.prober import prober as prober_
from rota.adapters.prober.listeners import Holder, Listener
from rota.core.healthcheck import Check, Kind
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.ports.exec import Ran
from rota.ports.prober import ProbeResult
from rota.testing.machine import until

REPLICA = ReplicaId("web-1")
OURS = frozenset({os.getpid()})


@asynccontextmanager
async def answering(answer: bytes | None, host: str = "127.0.0.1") -> AsyncIterator[tuple[Address, list[bytes]]]:
    """A server that gives one answer to each request; None never answers."""
    requests: list[bytes] = []
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            requests.append(await reader.readuntil(b"\r\n\r\n"))
            if answer is None:
                await over.wait()
            else:
                writer.write(answer)
                await writer.drain()
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0)
    try:
        yield Address("127.0.0.1", server.sockets[0].getsockname()[1]), requests
    finally:
        over.set()
        server.close()


def prober(pids: frozenset[int] | None = OURS) -> SocketProber:
    return SocketProber(lambda replica: pids)


async def asked(
    address: Address, path: str | None, expect: str | None = None, *, host: str = "web.localhost", timeout: float = 2
) -> ProbeResult:
    check = Check(Kind.TCP if path is None else Kind.HTTP, path, expect, timeout=timeout)
    return await prober().healthy(REPLICA, address, check, host)


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"HTTP/1.0 204 No Content\r\n\r\n", ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "HTTP 404"),
        (b"", "the connection was closed without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 2000 Strange\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, ""),
    ],
)
async def test_a_health_check_passes_on_2xx_and_3xx_alone(answer: bytes, failure: str) -> None:
    async with answering(answer) as (address, _):
        assert (await asked(address, "/up")).failure == failure


async def test_a_health_check_asks_for_the_path_with_the_apps_host() -> None:
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n") as (address, requests):
        assert (await asked(address, "/up?deep=1", host="web.example.org")).passed
    assert requests[0].startswith(b"GET /up?deep=1 HTTP/1.1\r\nHost: web.example.org\r\n")


class Running:
    """What a command was seen to do."""

    def __init__(self, ran: Ran) -> None:
        self._ran = ran

    async def run(self, replica: ReplicaId, command: Sequence[str], timeout: float, most_output: int = 0) -> Ran:
        assert (replica, command, timeout) == (REPLICA, ("pg_isready",), 2.0)
        return self._ran


@pytest.mark.feature("W5")
@pytest.mark.parametrize(
    ("ran", "failure"),
    [
        (Ran(0, "all is well"), ""),
        (Ran(1), "the check's command ended with exit code 1"),
        (Ran(2, "no\nnot \x1b[31mready\n\n"), "the check's command ended with exit code 2: not ?[31mready"),
        (Ran(None, "y" * 999), f"the check's command did not end within 2 s and was killed: {'y' * 200}"),
        (Ran(127), "the check's command cannot be run (exit code 127: is 'pg_isready' in the replica?)"),
        (Ran(126), "the check's command cannot be run (exit code 126: may 'pg_isready' be executed?)"),
    ],
)
async def test_a_command_passes_with_exit_code_0_and_else_it_is_said_why(ran: Ran, failure: str) -> None:
    check = Check(Kind.EXEC, timeout=2.0, command=("pg_isready",))
    asker = SocketProber(lambda replica: OURS, exec=Running(ran))
    assert (await asker.healthy(REPLICA, Address("127.0.0.1", 1), check, "web.localhost")).failure == failure


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
OTHER_BODY = "HTTP 200, and its body does not have the text of expect_body"


@pytest.mark.feature("H3")
@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (OK + b"\r\nstate: all is well\n", ""),
        (OK + b"Content-Length: 11\r\n\r\nall is well and more", ""),
        (OK + b"Content-Length: 10\r\n\r\nall is well", OTHER_BODY),
        (OK + b"X: all is well\r\n\r\nno", OTHER_BODY),
        (OK + b"\r\n", OTHER_BODY),
        (OK + b"\r\n" + b"." * 8181 + b"all is well", ""),
        (OK + b"\r\n" + b"." * 8182 + b"all is well", OTHER_BODY),
        (CHUNKED + b"4\r\nall \r\n7;x=y\r\nis well\r\n0\r\n\r\n", ""),
        (CHUNKED + b"4\r\nall \r\n7\r\nis bad!\r\n0\r\n\r\nall is well", OTHER_BODY),
        (CHUNKED + b"1\r\n.\r\n" * 9000, OTHER_BODY),
        (OK + b"X: " + b"y" * 100_000 + b"\r\n\r\nall is well", OTHER_BODY),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nall is well", "HTTP 503"),
    ],
)
async def test_an_expected_body_has_to_have_its_text(answer: bytes, failure: str) -> None:
    async with answering(answer) as (address, _):
        assert (await asked(address, "/up", "all is well")).failure == failure


async def test_an_answer_that_comes_byte_by_byte_is_late_as_a_whole() -> None:
    """Each byte is in time, and the last one would never be."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            for byte in OK + b"X: " + b"y" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.02)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1])
        assert (await asked(address, "/up", timeout=0.3)).failure == "no answer within 0.3 s"


async def test_a_silent_server_fails_when_the_time_is_up() -> None:
    async with answering(None) as (address, _):
        result = await asked(address, "/", timeout=0.2)
    assert result.failure == "no answer within 0.2 s"


async def test_without_a_path_an_accepted_connection_is_enough() -> None:
    async with answering(None) as (address, _):
        assert (await asked(address, None)).passed


async def test_nobody_there_is_refused_in_words() -> None:
    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", placeholder.getsockname()[1])
        assert (await prober(frozenset()).accepts(REPLICA, address, 1)).failure == "connection refused"
        assert (await asked(address, "/")).failure == "connection refused"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::"])
async def test_a_socket_of_the_replicas_own_tree_counts(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        assert (await prober().accepts(REPLICA, address, 1)).passed
        assert (await prober(None).accepts(REPLICA, address, 1)).passed


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1"])
def test_the_kernel_and_proc_tell_the_same_of_a_listener(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        expected = Listener(host, listener.getsockname()[1], os.fstat(listener.fileno()).st_ino)
        assert expected in list(listeners_.listeners())

        def unknown(family: int) -> Iterator[Listener]:
            raise OSError(2, "sock_diag")

        monkeypatch.setattr(listeners_, "_diagnosed", unknown)
        assert expected in list(listeners_.listeners())


async def test_another_process_on_the_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        result = await prober(frozenset({1})).accepts(REPLICA, Address("127.0.0.1", port), 1)
    assert result.failure.startswith(f"port {port} is held by another process (pid {os.getpid()}, ")


@pytest.mark.parametrize("look", ["processes of the replica", "holder of the port", "other ports"])
async def test_the_loop_goes_on_while_proc_is_gone_through(look: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of processes that takes a second. Here each look waits for what only the loop can do."""
    loop = asyncio.get_running_loop()

    def waiting(value: object) -> Callable[[object], object]:
        def look(_: object) -> object:
            went_on = threading.Event()
            loop.call_soon_threadsafe(went_on.set)
            return value if went_on.wait(10) else pytest.fail("the loop stood still")

        return look

    asking = prober(frozenset({1}))
    match look:
        case "processes of the replica":
            asking = SocketProber(waiting(OURS))  # type: ignore[arg-type]
        case "holder of the port":
            monkeypatch.setattr(prober_, "holder_of", waiting(Holder()))
        case _:
            monkeypatch.setattr(prober_, "_FIRST_LOOK", 0.0)
            asking = SocketProber(lambda replica: OURS, waiting(None))  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        asked = closed if look == "other ports" else listener
        for _ in range(2):  # of a port where nobody listens, nothing is looked up at first
            await asking.accepts(REPLICA, Address("127.0.0.1", asked.getsockname()[1]), 1)


async def test_who_holds_a_port_is_not_looked_up_at_each_try(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(prober_, "holder_of", lambda inode: looks.append(inode) or Holder(7, "nginx"))
    asking = prober(frozenset({1}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        told = {(await asking.accepts(REPLICA, Address("127.0.0.1", port), 1)).failure for _ in range(3)}
    assert told == {f"port {port} is held by another process (pid 7, nginx)"}
    assert len(looks) == 1


async def test_listening_on_the_wrong_port_is_told_once_it_has_been_looked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as wrong, socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        address, asking = Address("127.0.0.1", placeholder.getsockname()[1]), prober()
        assert (await asking.accepts(REPLICA, address, 1)).failure == "connection refused"

        async def told() -> str:
            failure = (await asking.accepts(REPLICA, address, 1)).failure
            return failure if f"127.0.0.1 port {wrong.getsockname()[1]}" in failure else ""

        assert f"not on 127.0.0.1 port {address.port} ($PORT)" in str(await until(told))
