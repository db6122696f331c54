"""Connections wait for a child that is started again, and for none that will not answer."""

import os
import signal
import socket
from pathlib import Path

import pytest

from .conftest import Connection, Keeper, order, python, running, until

_ANSWERS = """
import os, socket
listener = socket.socket(fileno=int(os.environ["WEB"].removeprefix("fd@")))
while True:
    client, _ = listener.accept()
    client.sendall(str(os.getpid()).encode())
    client.close()
"""


@pytest.fixture
def place() -> str:
    return free_place()


def free_place() -> str:
    with socket.socket() as probe:
        return bound(probe)


def bound(listener: socket.socket) -> str:
    listener.bind(("127.0.0.1", 0))
    return f"127.0.0.1:{listener.getsockname()[1]}"


def dial(place: str) -> socket.socket:
    host, _, port = place.rpartition(":")
    return socket.create_connection((host, int(port)), 10)


def answer(connection: socket.socket) -> int:
    with connection:
        return int(connection.recv(100))


def refused(place: str) -> bool:
    try:
        dial(place).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_connection_waits_for_the_next_run(keeper: Keeper, place: str) -> None:
    client = keeper.connect()
    first = client.do("start", child=python("web", _ANSWERS, listen={"WEB": place}, restart=True))["child"]["pid"]
    assert answer(dial(place)) == first
    assert keeper.process is not None
    keeper.process.send_signal(signal.SIGSTOP)  # so that nobody starts it again before the connection is there
    os.kill(first, signal.SIGKILL)
    until(lambda: not running(first))
    waiting = dial(place)
    keeper.process.send_signal(signal.SIGCONT)
    second = answer(waiting)
    assert second != first
    assert running(second)


def test_whoever_waits_for_what_ends_over_and_over_is_refused(keeper: Keeper, place: str) -> None:
    client = keeper.connect()
    client.do("start", child=order("web", "/bin/false", listen={"WEB": place}, restart=True))
    until(lambda: refused(place))
    assert client.do("list")["children"][0]["restarts"] >= 5
    until(lambda: client.do("list")["children"][0]["restarts"] >= 7)
    assert refused(place)


@pytest.mark.parametrize("ended", ["stopped", "never", "forgotten"])
def test_nobody_waits_for_what_is_not_started_again(keeper: Keeper, place: str, ended: str) -> None:
    client = keeper.connect()
    client.do("watch")
    child = python("web", _ANSWERS, listen={"WEB": place}, restart=ended == "stopped")
    client.do("start", child=child)
    if ended == "stopped":
        client.do("signal", name="web", signal="TERM", restart=False)
    else:
        client.do("signal", name="web", signal="KILL")
    client.event("exited", "web")
    if ended == "forgotten":
        client.do("forget", name="web")
    until(lambda: refused(place))


def test_a_child_stopped_between_two_runs_has_nobody_waiting(keeper: Keeper, place: str) -> None:
    client = keeper.connect()
    client.do("start", child=order("web", "/bin/false", listen={"WEB": place}, restart=True))
    _until_it_waits(client)
    client.do("signal", name="web", signal="TERM", restart=False)
    assert refused(place)


def _until_it_waits(client: Connection) -> None:
    """For its next start, long enough for a request to come in between."""
    until(lambda: client.do("list")["children"][0]["restarts"] >= 4)
    until(lambda: client.do("list")["children"][0]["state"] == "exited")


def test_a_place_that_somebody_else_has_is_left_to_the_child(keeper: Keeper, tmp_path: Path) -> None:
    with socket.socket() as other:
        taken = bound(other)
        other.listen()
        client = keeper.connect()
        client.do("watch")
        log = tmp_path / "log"
        child = python("web", "import os; print(os.environ.get('WEB'))", listen={"WEB": taken}, log=str(log))
        client.do("start", child=child)
        assert client.event("exited", "web")["exit_code"] == 0
        assert log.read_text() == "None\n"


def test_a_child_may_listen_at_a_place_that_has_the_other_in_it(keeper: Keeper, place: str) -> None:
    """As HAProxy does on the way from 127.0.0.1:8080 to *:8080: the new place is its own until it is started again."""
    keeper.connect().do("start", child=python("web", _ANSWERS, listen={"WEB": place}))
    with socket.socket() as wide:
        wide.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        wide.bind(("0.0.0.0", int(place.rpartition(":")[2])))
        wide.listen()


def test_other_places_hold_from_the_next_start_and_the_old_ones_are_let_go_of_now(keeper: Keeper, place: str) -> None:
    client = keeper.connect()
    pid = client.do("start", child=python("web", _ANSWERS, listen={"WEB": place}, restart=True))["child"]["pid"]
    assert answer(dial(place)) == pid
    other = free_place()
    assert client.do("listen", name="web", listen={"WEB": other})["child"]["listen"] == {"WEB": other}
    until(lambda: refused(place))
    assert refused(other)
    client.do("signal", name="web", signal="KILL")
    until(lambda: client.do("list")["children"][0]["restarts"] == 1)
    assert answer(dial(other)) != pid


def test_the_next_keeper_listens_again_once_the_child_is_started_again(stopped: Keeper, place: str) -> None:
    client = stopped.run().connect()
    first = client.do("start", child=python("web", _ANSWERS, listen={"WEB": place}, restart=True))["child"]["pid"]
    stopped.kill()
    client = stopped.run().connect()
    assert answer(dial(place)) == first
    client.do("signal", name="web", signal="KILL")
    until(lambda: client.do("list")["children"][0]["restarts"] == 1)
    assert answer(dial(place)) != first


@pytest.mark.parametrize("listen", [["127.0.0.1:80"], {"WEB": "80"}, {"": "127.0.0.1:80"}, {"WEB": 80}, {"A=B": ":80"}])
def test_what_is_no_place_is_refused(keeper: Keeper, listen: object) -> None:
    reply = keeper.connect().ask("start", child=order("web", "/bin/true", listen=listen))
    assert reply["error"]["code"] == "bad-request"


@pytest.mark.parametrize("restart", [True, False])
def test_nobody_waits_for_what_could_not_be_started(keeper: Keeper, place: str, restart: bool) -> None:
    client = keeper.connect()
    reply = client.ask("start", child=order("web", "/nonexistent", listen={"WEB": place}, restart=restart))
    assert reply["error"]["code"] == "exec-failed"
    assert refused(place)
