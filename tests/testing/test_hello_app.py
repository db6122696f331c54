"""The example app answers, misbehaves and stops as its README says."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Hello, StartHello

MASK = b"\x01\x02\x03\x04"


def ask(hello: Hello, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", hello.port, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    finally:
        connection.close()


def connect(hello: Hello) -> socket.socket:
    return socket.create_connection(("127.0.0.1", hello.port), timeout=10)


def read_until(sock: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        chunk = sock.recv(65536)
        assert chunk, f"closed after {received!r}"
        received += chunk
    return received


def read_exactly(sock: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        chunk = sock.recv(size - len(received))
        assert chunk, f"closed after {received!r}"
        received += chunk
    return received


def frame(opcode: int, payload: bytes, final: int = 0x80) -> bytes:
    masked = bytes(byte ^ MASK[place % 4] for place, byte in enumerate(payload))
    size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
    return bytes([final | opcode]) + size + MASK + masked


def open_websocket(hello: Hello) -> socket.socket:
    sock = connect(hello)
    sock.sendall(
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    head = read_until(sock, b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    # The key and its answer are the example of RFC 6455, 1.3.
    assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head
    return sock


def test_answers_name_version_replica_and_release(start_hello: StartHello) -> None:
    hello = start_hello(HELLO_VERSION="5", ROTA_SLOT="2")
    status, body, headers = ask(hello, "GET", "/")
    assert (status, body) == (200, b"Hello from hello, version 5, replica r1, slot 2\n")
    assert (headers["x-rota-replica"], headers["x-rota-release"]) == ("r1", "7")
    assert json.loads(ask(hello, "GET", "/version")[1]) == {
        "version": "5",
        "release": "7",
        "replica": "r1",
        "slot": "2",
        "pid": hello.process.pid,
    }


def test_health_can_be_switched_off_and_on(start_hello: StartHello) -> None:
    hello = start_hello()
    assert ask(hello, "GET", "/health")[0] == 200
    assert ask(hello, "POST", "/health/off")[0] == 200
    assert ask(hello, "GET", "/health")[0] == 503
    assert ask(hello, "POST", "/health/on")[0] == 200
    assert ask(hello, "GET", "/health")[:2] == (200, b"ok\n")


def test_echo_gives_a_large_body_back(start_hello: StartHello) -> None:
    body = bytes(range(256)) * 4096
    status, echoed, headers = ask(start_hello(), "POST", "/echo", body)
    assert (status, echoed == body, headers["content-length"]) == (200, True, str(len(body)))


def test_slow_answers_after_its_time_and_refuses_nonsense(start_hello: StartHello) -> None:
    hello = start_hello()
    began = time.monotonic()
    assert ask(hello, "GET", "/slow?seconds=0.3")[:2] == (200, b"slow: done\n")
    assert time.monotonic() - began >= 0.3
    assert [ask(hello, "GET", f"/slow?seconds={word}")[0] for word in ("x", "-1", "nan", "601")] == [400] * 4


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("POST", "/", 405), ("GET", "/ws", 426)]
)
def test_wrong_requests_get_their_status(start_hello: StartHello, method: str, path: str, status: int) -> None:
    assert ask(start_hello(), method, path)[0] == status


def test_head_has_the_headers_and_no_body(start_hello: StartHello) -> None:
    status, body, headers = ask(start_hello(), "HEAD", "/health")
    assert (status, body, headers["content-length"]) == (200, b"", "3")


def test_one_connection_carries_pipelined_requests_in_order(start_hello: StartHello) -> None:
    with connect(start_hello()) as sock:
        sock.sendall(
            b"GET /slow?seconds=0.1 HTTP/1.1\r\nHost: x\r\n\r\n"
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        answers = read_until(sock, b"\r\n\r\nok\n")
        assert sock.recv(1) == b""
    assert answers.count(b"HTTP/1.1 200 OK") == 3
    assert answers.index(b"slow: done") < answers.index(b"\r\n\r\nabc") < answers.index(b"Connection: close")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"411"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 40_000, b"431"),
    ],
)
def test_what_it_cannot_read_is_refused_and_closed(
    start_hello: StartHello, request_bytes: bytes, status: bytes
) -> None:
    with connect(start_hello()) as sock:
        sock.sendall(request_bytes)
        assert read_until(sock, b"\n").startswith(b"HTTP/1.1 " + status)


def test_expect_continue_is_answered(start_hello: StartHello) -> None:
    with connect(start_hello()) as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert read_until(sock, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hi")
        assert read_until(sock, b"hi").startswith(b"HTTP/1.1 200 ")


def test_websocket_echoes_messages_pings_and_fragments(start_hello: StartHello) -> None:
    with open_websocket(start_hello()) as sock:
        sock.sendall(frame(0x1, b"hello") + frame(0x9, b"ping") + frame(0x2, b"x" * 300))
        assert read_exactly(sock, 7) == b"\x81\x05hello"
        assert read_exactly(sock, 6) == b"\x8a\x04ping"
        assert read_exactly(sock, 304) == b"\x82\x7e\x01\x2c" + b"x" * 300
        sock.sendall(frame(0x1, b"a", final=0) + frame(0x0, b"b"))
        assert read_exactly(sock, 6) == b"\x01\x01a\x80\x01b"
        sock.sendall(frame(0x8, (1000).to_bytes(2, "big")))
        assert read_exactly(sock, 4) == b"\x88\x02\x03\xe8"
        assert sock.recv(1) == b""


def test_an_unmasked_frame_ends_the_websocket(start_hello: StartHello) -> None:
    with open_websocket(start_hello()) as sock:
        sock.sendall(b"\x81\x01a")
        assert read_exactly(sock, 4) == b"\x88\x02\x03\xea"


def test_sse_sends_events_with_its_replica(start_hello: StartHello) -> None:
    with connect(start_hello()) as sock:
        sock.sendall(b"GET /sse HTTP/1.1\r\nHost: x\r\n\r\n")
        stream = read_until(sock, b"id: 2\ndata: r1\n\n")
    assert b"Content-Type: text/event-stream" in stream
    assert b"id: 1\ndata: r1\n\n" in stream


def test_sigterm_finishes_open_requests_and_exits_0(start_hello: StartHello) -> None:
    hello = start_hello()
    with connect(hello) as idle, connect(hello) as slow, open_websocket(hello) as websocket:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        read_until(idle, b"ok\n")
        slow.sendall(b"GET /slow?seconds=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        # The app reads its connections in turn: an answer to a later request shows that it has the slow one.
        ask(hello, "GET", "/health")
        hello.process.send_signal(signal.SIGTERM)
        assert read_exactly(websocket, 4) == b"\x88\x02\x03\xe9"
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            connect(hello)
        answer = read_until(slow, b"slow: done\n")
        assert b"Connection: close" in answer
    assert hello.process.wait(10) == 0


def test_memory_is_held_as_long_as_it_is_told(start_hello: StartHello) -> None:
    hello = start_hello()
    held = []
    for mebibytes in (64, 0):
        assert ask(hello, "POST", f"/memory?mib={mebibytes}")[:2] == (200, b"held\n")
        pages = Path(f"/proc/{json.loads(ask(hello, 'GET', '/version')[1])['pid']}/statm").read_text().split()[1]
        held.append(int(pages) * os.sysconf("SC_PAGE_SIZE"))
    assert held[0] - held[1] > 60 * 2**20
    assert ask(hello, "POST", "/memory?mib=many")[0] == 400


def test_crash_exits_1_without_an_answer(start_hello: StartHello) -> None:
    hello = start_hello()
    with pytest.raises((http.client.RemoteDisconnected, ConnectionResetError)):
        ask(hello, "POST", "/crash")
    assert hello.process.wait(10) == 1


def test_boot_seconds_delay_listening(start_hello: StartHello) -> None:
    began = time.monotonic()
    hello = start_hello(HELLO_BOOT_SECONDS="0.5")
    assert time.monotonic() - began >= 0.5
    assert ask(hello, "GET", "/health")[0] == 200


@pytest.mark.parametrize("seconds", ["0", "0.3"])
def test_crash_after_exits_3_and_names_a_missing_variable(start_hello: StartHello, seconds: str) -> None:
    hello = start_hello(listens=False, HELLO_CRASH_AFTER=seconds)
    _, errors = hello.process.communicate(timeout=10)
    assert hello.process.returncode == 3
    assert errors.splitlines()[-1] == "hello: the environment variable DATABASE_URL is missing"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def test_never_listen_runs_without_a_port_and_ends_on_sigterm(start_hello: StartHello) -> None:
    port = free_port()
    process = start_hello(listens=False, HELLO_NEVER_LISTEN="1", PORT=str(port)).process
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    process.terminate()
    assert process.wait(10) == 0


def test_listen_port_wins_over_port(start_hello: StartHello) -> None:
    port, other = free_port(), free_port()
    hello = start_hello(PORT=str(port), HELLO_LISTEN_PORT=str(other))
    assert hello.port == other
    assert ask(hello, "GET", "/health")[0] == 200


def test_unhealthy_is_503_from_the_start_and_serves(start_hello: StartHello) -> None:
    hello = start_hello(HELLO_UNHEALTHY="1")
    assert ask(hello, "GET", "/health")[0] == 503
    assert ask(hello, "GET", "/")[0] == 200


def test_ignore_term_needs_sigkill(start_hello: StartHello) -> None:
    hello = start_hello(HELLO_IGNORE_TERM="1")
    hello.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        hello.process.wait(0.5)
    assert ask(hello, "GET", "/health")[0] == 200


def test_access_log_has_a_line_for_each_request(start_hello: StartHello) -> None:
    hello = start_hello(HELLO_ACCESS_LOG="1")
    ask(hello, "GET", "/health")
    assert hello.process.stdout is not None
    assert hello.process.stdout.readline() == "GET /health 200 3\n"
