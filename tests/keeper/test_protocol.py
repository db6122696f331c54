"""Whatever comes over the socket is answered; nothing is missed, nothing brings the keeper down."""

import json
import os
import resource
import signal
import socket

import pytest

from .conftest import Connection, Keeper, order, python, until


def test_a_second_keeper_is_refused_in_one_line(keeper: Keeper) -> None:
    second = keeper.spawn()
    _, said = second.communicate(timeout=10)
    assert second.returncode == 1
    assert said.decode() == f"rota keeper: {keeper.directory} has a keeper already\n"
    keeper.connect().do("ping")


def test_files_are_private_and_the_id_stays(keeper: Keeper) -> None:
    modes = {path.name: path.stat().st_mode & 0o777 for path in keeper.directory.iterdir()}
    assert modes == {"id": 0o600, "keeper": 0o700, "keeper.sock": 0o600}
    first = keeper.connect().do("list")["keeper"]["data_dir_id"]
    keeper.kill()
    keeper.run()
    assert keeper.connect().do("list")["keeper"]["data_dir_id"] == first == keeper.id


def test_a_watcher_misses_nothing(keeper: Keeper) -> None:
    client, watcher = keeper.connect(), keeper.connect()
    watcher.do("watch")
    for number in range(20):
        client.send(id=number, op="start", child=order(f"c{number}", "/bin/sh", "-c", f"exit {number}"))
    replies = [client.receive() for _ in range(20)]
    assert all(reply["ok"] for reply in replies)
    seen: dict[str, list[str]] = {}
    codes = {}
    while sum(kinds[-1] == "exited" for kinds in seen.values()) < 20:
        message = watcher.receive()
        child = message["child"]
        seen.setdefault(child["name"], []).append(message["event"])
        codes[child["name"]] = child["exit_code"]
    assert set(map(tuple, seen.values())) == {("started", "exited")}
    assert codes == {f"c{number}": number for number in range(20)}


def test_a_watcher_that_does_not_read_is_let_go(keeper: Keeper) -> None:
    client, slow = keeper.connect(), keeper.connect()
    client.do("start", child=order("one", "sleep", "60"))
    slow.do("watch")
    for number in range(40):
        client.do("update", name="one", meta={"number": number, "ballast": "x" * 100_000})
    with pytest.raises((EOFError, ConnectionError)):
        slow.receive_all()
    client.do("ping")


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense",
        b"[1]",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"op": ["list"]}',
        b'{"op": "nonsense"}',
        b'{"op": "start"}',
        b'{"op": "start", "child": {"name": "../x", "argv": ["true"]}}',
        b'{"op": "start", "child": {"name": "a"}}',
        b'{"op": "start", "child": {"name": "a", "argv": []}}',
        b'{"op": "start", "child": {"name": "a", "argv": ["a\\u0000b"]}}',
        b'{"op": "start", "child": {"name": "a", "argv": ["\\ud800"]}}',
        b'{"op": "start", "child": {"name": "a", "argv": ["true"], "env": {"A=B": "c"}}}',
        b'{"op": "start", "child": {"name": "a", "argv": ["true"], "log": "relative"}}',
        b'{"op": "start", "child": {"name": "a", "argv": ["true"], "state": "running"}}',
        b'{"op": "forget", "name": "/etc/passwd"}',
        b'{"op": "signal", "name": "a", "signal": 9}',
        b'{"op": "signal", "name": "a", "signal": "TERM", "tree": "yes"}',
        b'{"op": "restart", "name": 1' + b"0" * 5000 + b"}",
    ],
)
def test_bad_requests_are_refused(keeper: Keeper, line: bytes) -> None:
    client = keeper.connect()
    client.socket.sendall(line + b"\n")
    assert client.receive()["error"]["code"] == "bad-request"
    client.do("ping")
    assert client.do("list")["children"] == []


def test_a_line_without_an_end_is_refused(keeper: Keeper) -> None:
    client = keeper.connect()
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        client.socket.sendall(b"x" * 80 * 65536)
    assert client.receive()["error"]["code"] == "bad-request"
    keeper.connect().do("ping")


def test_clients_that_vanish_do_no_harm(keeper: Keeper) -> None:
    for _ in range(20):
        client = Connection(keeper.socket_path)
        client.send(op="watch")
        client.send(op="start", child=order("one", "sleep", "60"))
        client.socket.shutdown(socket.SHUT_RD)
        client.close()
    client = keeper.connect()
    client.do("start", child=order("one", "sleep", "60"))
    client.do("update", name="one", meta={"a": 1})
    assert len(client.do("list")["children"]) == 1


def test_many_requests_in_one_piece_and_one_in_many(keeper: Keeper) -> None:
    client = keeper.connect()
    client.socket.sendall(b"".join(json.dumps({"id": n, "op": "ping"}).encode() + b"\n" for n in range(50)))
    assert [client.receive()["id"] for _ in range(50)] == list(range(50))
    for byte in b'{"id": {"any": "thing"}, "op": "ping"}\n':
        client.socket.sendall(bytes([byte]))
    assert client.receive() == {"id": {"any": "thing"}, "ok": True}


def test_shutdown_is_refused_while_a_child_lives(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("start", child=order("one", "sleep", "60"))
    assert client.ask("shutdown")["error"]["code"] == "children-alive"
    client.do("watch")
    client.do("signal", name="one", signal="KILL")
    client.event("exited", "one")
    client.do("shutdown")
    assert keeper.process is not None
    assert keeper.process.wait(10) == 0
    assert not keeper.socket_path.exists()


def test_without_descriptors_a_start_is_refused_and_the_keeper_goes_on(keeper: Keeper) -> None:
    client = keeper.connect()
    assert keeper.process is not None
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{keeper.process.pid}/fd"))
    resource.prlimit(keeper.process.pid, resource.RLIMIT_NOFILE, (used + 2, hard))
    reply = client.ask("start", child=order("one", "sleep", "60"))
    assert reply["error"]["code"] in ("exec-failed", "disk")
    idle = [socket.socket(socket.AF_UNIX) for _ in range(8)]
    for one in idle:
        one.connect(str(keeper.socket_path))
    client.do("ping")
    resource.prlimit(keeper.process.pid, resource.RLIMIT_NOFILE, (used + 100, hard))
    client.do("start", child=order("one", "sleep", "60"))
    keeper.connect().do("ping")
    for one in idle:
        one.close()


def test_a_disk_that_refuses_refuses_the_start_and_exits_still_go_out(keeper: Keeper) -> None:
    """RLIMIT_FSIZE stands in for a full disk: the write of the record fails."""
    client = keeper.connect()
    client.do("watch")
    pid = client.do("start", child=order("one", "sleep", "60"))["child"]["pid"]
    assert keeper.process is not None
    resource.prlimit(keeper.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    reply = client.ask("start", child=order("two", "sleep", "60"))
    assert reply["error"]["code"] == "disk"
    assert len(keeper.pids()) == 1
    os.kill(pid, signal.SIGKILL)
    assert client.event("exited", "one")["signal"] == 9
    assert keeper.record("one")["state"] == "running"
    resource.prlimit(keeper.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    until(lambda: keeper.record("one")["state"] == "exited")
    client.do("start", child=order("two", "sleep", "60"))


def test_a_path_too_long_for_a_socket_is_one_clear_line(stopped: Keeper) -> None:
    long = Keeper(stopped.directory / ("x" * 120))
    process = long.spawn()
    _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert said.startswith(b"rota keeper: cannot listen on ")
    assert said.count(b"\n") == 1


def test_hangup_is_ignored_and_many_zombies_are_reaped(keeper: Keeper) -> None:
    """Orphans come to the keeper, which is their subreaper, and leave no zombies with it."""
    assert keeper.process is not None
    keeper.process.send_signal(signal.SIGHUP)
    program = (
        "import os, time\n"
        "for _ in range(50):\n"
        "    if not os.fork():\n"
        "        os.fork() and os._exit(0)\n"
        "        time.sleep(0.3); os._exit(0)\n"
        "while True:\n"
        "    os.wait()\n"
    ).replace("    os.wait()", "    time.sleep(60)")
    client = keeper.connect()
    client.do("start", child=python("one", program))
    until(lambda: len(keeper.pids()) > 1)
    until(lambda: len(keeper.pids()) == 1)
    until(lambda: len(_children_of(keeper.process.pid if keeper.process else 0)) == 1)
    assert client.do("list")["children"][0]["state"] == "running"


def _children_of(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()
