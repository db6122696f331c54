"""Engines over SSH: the tunnel against a real sshd, what becomes of it when it breaks, and addresses that are none."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rota.adapters.machine import LocalMachine
from rota.adapters.runtime.docker.client import Client
from rota.adapters.runtime.docker.sshaddress import SshAddress
from rota.core.errors import Missing, StepFailed, UsageError
from rota.core.observation import RunState
from rota.testing.dock import Dock, box_spec, dock
from rota.testing.docker import DockerEngine
from rota.testing.machine import until
from rota.testing.sshd import SshServer, ssh_server


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ssh://box", SshAddress("box")),
        ("ssh://ops@box.example.org/", SshAddress("box.example.org", "ops")),
        ("ssh://ops@10.0.0.7:2222", SshAddress("10.0.0.7", "ops", 2222)),
        ("ssh://box:22/run/user/1000/docker.sock", SshAddress("box", None, 22, "/run/user/1000/docker.sock")),
        ("ssh://ops@[fd00::7]:2222/run/d.sock", SshAddress("fd00::7", "ops", 2222, "/run/d.sock")),
        ("ssh://[::1]", SshAddress("::1")),
    ],
)
def test_an_address_over_ssh_is_read_as_docker_reads_it(text: str, address: SshAddress) -> None:
    assert SshAddress.read(text) == address
    *_, dashes, host = address.command("./local")
    assert (dashes, host) == ("--", address.host)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("ssh://", "the host"),
        ("ssh://-oProxyCommand=touch${IFS}owned", "the host"),
        ("ssh://ops@-oProxyCommand=id", "the host"),
        ("ssh://-oProxyCommand=id@box", "the user's name"),
        ("ssh://ops:hunter2@box", "the user's name"),
        ("ssh://@box", "the user's name"),
        ("ssh://a@b@box", "the user's name"),
        ("ssh://box;id", "the host"),
        ("ssh://$(id)@box", "the user's name"),
        ("ssh://%h", "the host"),
        ("ssh://bo x", "the host"),
        ("ssh://box\n-oProxyCommand=id", "the host"),
        ("ssh://bóx", "the host"),
        ("ssh://[fe80::1%eth0]", "the host"),
        ("ssh://[::1", "the host"),
        ("ssh://[::1]22", "the host"),
        ("ssh://fd00::7", "the port"),
        ("ssh://box:", "the port"),
        ("ssh://box:0", "the port"),
        ("ssh://box:70000", "the port"),
        ("ssh://box:22 -oProxyCommand=id", "the port"),
        ("ssh://box:²²", "the port"),
        ("ssh://box/run/a:b", "the path"),
        ("ssh://box/run/%d", "the path"),
        ("ssh://box/run/${HOME}", "the path"),
        ("ssh://box/run/a\\:b", "the path"),
        ("ssh://box/d.sock?x", "the path"),
        ("ssh://box/" + "a" * 107, "the path"),
    ],
)
def test_what_is_no_address_never_reaches_ssh(text: str, part: str) -> None:
    with pytest.raises(UsageError) as refused:
        Client(text, Path("/nonexistent"))
    assert str(refused.value).startswith(f"{part} ")
    assert "hunter2" not in str(refused.value)


@pytest.fixture(scope="module")
def shared(component: Callable[[str], Path]) -> Iterator[SshServer]:
    with ssh_server(component("sshd")) as server:
        yield server


@pytest.fixture
def ssh(shared: SshServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshServer]:
    """As it was made, whatever a test has changed."""
    known = shared.known.read_text()
    monkeypatch.setenv("PATH", shared.path)
    yield shared
    shared.known.write_text(known)
    shared.allow()


def below(pid: int) -> list[str]:
    """The programs that this process has started and that are there."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/comm").read_text().strip() for child in children]


def ssh_of(box: Dock) -> int:
    """The pid of the tunnel's program."""
    (found,) = [
        int(child)
        for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
        if _place_of(child) == box.data_dir / "ssh"
    ]
    return found


def _place_of(child: str) -> Path | None:
    """None for one that has ended since it was listed."""
    try:
        return Path(f"/proc/{child}/cwd").readlink()
    except OSError:
        return None


async def is_lost(box: Dock) -> bool:
    try:
        await box.runtime.observe()
    except StepFailed:
        return True
    return False


async def is_back(box: Dock) -> bool:
    return not await is_lost(box)


@pytest.mark.parametrize("break_it", ["ssh is killed", "the connection is cut"])
async def test_replicas_on_an_engine_over_ssh_and_a_tunnel_that_is_made_again(
    ssh: SshServer, docker_engine: DockerEngine, break_it: str
) -> None:
    async with dock(docker_engine, host=ssh.url(docker_engine.host)) as box:
        before = await box.started(box_spec())
        assert before.state is RunState.RUNNING
        assert (box.data_dir / "ssh").stat().st_mode & 0o777 == 0o700
        assert await box.runtime.available() is None
        box.woken.clear()
        if break_it == "ssh is killed":
            os.kill(ssh_of(box), signal.SIGKILL)
        else:
            ssh.cut()
        await docker_engine.cli("kill", box.name("web-1"))

        async def ended() -> bool:
            seen = await box.replica() if await is_back(box) else None
            return seen is not None and seen.state is RunState.EXITED

        await until(ended)
        assert "web" in box.woken
        assert box.runtime.namespace_of(before.id) is None
    assert "ssh" not in below(os.getpid())


@pytest.mark.full
async def test_a_connection_that_falls_silent_is_given_up(ssh: SshServer, docker_engine: DockerEngine) -> None:
    async with dock(docker_engine, host=ssh.url(docker_engine.host)) as box:
        first = ssh_of(box)
        ssh.stall()
        await until(lambda: is_lost(box), 60)
        await until(lambda: is_back(box), 30)
        assert ssh_of(box) != first
        ssh.cut()


async def test_what_is_left_of_memory_is_told_of_this_machine_alone(
    docker_engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have forwarded a socket by hand: its engine's memory is not this machine's."""
    async with dock(docker_engine) as box:
        left = await box.runtime.available()
        assert left is not None
        assert 0 < left <= (await box.runtime.size()).memory
        monkeypatch.setattr(LocalMachine, "memory", LocalMachine().memory + 4096)
        assert await box.runtime.available() is None


async def test_a_host_that_is_away_is_named_and_found_again(ssh: SshServer, docker_engine: DockerEngine) -> None:
    async with dock(docker_engine, host=ssh.url(docker_engine.host)) as box:
        await asyncio.to_thread(ssh.stop)

        async def named() -> bool:
            try:
                await box.runtime.observe()
            except StepFailed as lost:
                return "Connection refused" in lost.message
            return False

        try:
            await until(named)
        finally:
            await asyncio.to_thread(ssh.start)
        await until(lambda: is_back(box))


@asynccontextmanager
async def client(host: str, directory: Path) -> AsyncIterator[Client]:
    made = Client(host, directory)
    try:
        await made.open()
        yield made
    finally:
        await made.close()
        assert "ssh" not in below(os.getpid())


async def refusal(host: str, directory: Path) -> str:
    with pytest.raises(Missing) as refused:
        async with client(host, directory / "ssh"):
            pass
    said = str(refused.value)
    assert said.startswith(f"the Docker engine at {host} ")
    assert "\n" not in said
    return said


async def test_a_host_that_is_not_known_is_not_trusted(ssh: SshServer, tmp_path: Path) -> None:
    ssh.known.write_text("")
    said = await refusal(ssh.url("unix:///run/none.sock"), tmp_path)
    assert "is not reached (ssh: Host key verification failed.); connect once by hand as this user" in said
    assert ssh.known.read_text() == ""


async def test_who_is_not_let_in_is_told_how(ssh: SshServer, tmp_path: Path) -> None:
    ssh.authorized.write_text("")
    said = await refusal(ssh.url("unix:///run/none.sock"), tmp_path)
    assert "Permission denied (publickey).); let this user in there" in said


@pytest.mark.parametrize("options", ["", "restrict"])
async def test_a_host_without_an_engine_or_that_forwards_nothing_says_so(
    ssh: SshServer, tmp_path: Path, options: str
) -> None:
    ssh.allow(options)
    said = await refusal(ssh.url("unix:///run/none.sock"), tmp_path)
    assert "is reached, but nothing answers at /run/none.sock there (ssh: channel " in said
    assert "start it, let the user use its socket, have sshd forward it (AllowStreamLocalForwarding), or" in said


async def test_nobody_who_listens_and_no_program_to_get_there(
    ssh: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Connection refused); see whether ssh leads there by hand" in await refusal("ssh://127.0.0.1:1", tmp_path)
    assert "Could not resolve hostname nowhere.invalid" in await refusal("ssh://nowhere.invalid", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = await refusal("ssh://127.0.0.1", tmp_path)
    assert said.endswith("cannot be reached: the program ssh is missing (apt-get install openssh-client)")
