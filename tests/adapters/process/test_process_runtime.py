"""What only real processes show: their environment, what contains and limits them, and who survives whose death."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import socket
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest
import pytest_asyncio

from rota.adapters.keeper import ChildOrder
from rota.adapters.prober import SocketProber
from rota.adapters.runtime import leases
from rota.adapters.runtime.process import artefacts
from rota.core.errors import StartFailed, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Artefact, ArtefactState, ObservedReplica, RunState
from rota.core.spec import AppSpec, Limits
from rota.ports.runtime import ReleaseOrder
from rota.testing.machine import Machine, app_spec, machine, one, packed, start_order, until

WEB_1 = ReplicaId("web-1")
SHOW = """#!/bin/sh
echo "argument $1"
env
pwd
echo done
exec sleep 60
"""
SERVER = """#!/usr/bin/env python3
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
if os.fork() == 0:
    while True:
        listener.accept()[0].close()
os.wait()
"""


@pytest_asyncio.fixture
async def box() -> AsyncIterator[Machine]:
    async with machine() as made:
        yield made


async def seen(box: Machine, replica: ReplicaId = WEB_1) -> ObservedReplica | None:
    return (await box.runtime.observe())[0].get(replica)


async def exited(box: Machine) -> ObservedReplica:
    async def look() -> ObservedReplica | None:
        found = await seen(box)
        return found if found is not None and found.state is RunState.EXITED else None

    found = await until(look)
    assert isinstance(found, ObservedReplica)
    return found


async def artefact(box: Machine, app: AppSpec, source: str | None, release: int = 1) -> Artefact:
    async def settled() -> Artefact | None:
        found = (await box.runtime.observe())[1].get((app.name, release))
        return found if found is not None and found.state is not ArtefactState.PREPARING else None

    await box.runtime.prepare(ReleaseOrder(app.name, release, source, app))
    found = await until(settled)
    assert isinstance(found, Artefact)
    return found


def existing(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if os.path.exists(path)]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_a_replica_gets_the_files_environment_and_rotas_names_and_nothing_else(
    box: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_DAEMON", "1")
    env = [{"name": "COLOUR", "value": "blue $PORT"}, {"name": "PORT", "value": "1"}]
    app = app_spec("./show.sh", "--port=${PORT},$PORT,$PORTAL", env=env)
    await box.unpacked(app, show__sh=SHOW)
    await box.runtime.start(start_order(1, app, slot=3, release=1))

    async def printed() -> tuple[str, ...]:
        lines = await box.runtime.logs.tail(WEB_1, 100)
        return lines if lines and lines[-1] == "done" else ()

    lines = await until(printed)
    replica = await seen(box)
    assert replica is not None
    assert replica.address is not None
    port, files = replica.address.port, box.data_dir / "data/web-1"
    assert lines[0] == f"argument --port={port},{port},$PORTAL"
    found = dict(line.split("=", 1) for line in lines[1:-2])
    for keeper_mark in ("ROTA_KEEPER", "ROTA_CHILD"):
        found.pop(keeper_mark)
    found.pop("_", None)
    assert found.pop("PWD") == lines[-2] == str(box.data_dir / "releases/web/1")
    assert found.pop("PATH").startswith("/usr/local/sbin:")
    assert found == {
        "HOME": str(files),
        "TMPDIR": str(files / "tmp"),
        "LANG": "C.UTF-8",
        "COLOUR": "blue $PORT",
        "PORT": str(port),
        "ROTA_APP": "web",
        "ROTA_RELEASE": "1",
        "ROTA_SLOT": "3",
        "ROTA_REPLICA": "web-1",
        "ROTA_DATA": str(files),
    }


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("missing", "no such program in PATH"),
        ("run.sh", r"write \./run\.sh"),
        ("./missing", "no such file in the app's directory"),
        ("./broken.sh", "the interpreter that it names is not"),
        ("./", "that is a directory"),
    ],
)
async def test_what_cannot_be_executed_is_told_with_the_way_out(box: Machine, command: str, word: str) -> None:
    app = app_spec(command)
    await box.unpacked(app, run__sh="#!/bin/sh\n", broken__sh="#!/not/there\n")
    with pytest.raises(StartFailed, match=word):
        await box.runtime.start(start_order(1, app))
    assert box.children.known == {}
    assert not (box.data_dir / "data/web-1").exists()


async def test_a_removed_replica_leaves_its_log_and_nothing_else(box: Machine) -> None:
    app = app_spec("sh", "-c", "echo bye > $TMPDIR/f; echo bye")
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app))
    await exited(box)
    groups = box.children.known["web-1"].cgroups
    await box.runtime.remove(WEB_1)
    assert not (box.data_dir / "data/web-1").exists()
    assert not existing(groups)
    assert await box.runtime.logs.tail(WEB_1, 5) == ("bye",)


async def test_only_the_newest_logs_are_kept(box: Machine) -> None:
    logs = box.data_dir / "logs/web"
    logs.mkdir(parents=True)
    for number in range(100, 130):
        for name in (f"web-{number}.log", f"web-{number}.log.1"):
            (logs / name).write_text("old")
            os.utime(logs / name, (number, number))
    app = app_spec("true")
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app))
    await exited(box)
    await box.runtime.remove(WEB_1)
    kept = sorted(path.name for path in logs.glob("*.log"))
    assert kept == ["web-1.log", *(f"web-{number}.log" for number in range(111, 130))]
    assert not (logs / "web-110.log.1").exists()


async def test_a_port_somebody_listens_on_is_skipped_and_one_given_back_rests(box: Machine) -> None:
    app = app_spec("sleep", "60")
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app))
    first = await seen(box)
    assert first is not None
    assert first.address is not None
    await box.runtime.kill(WEB_1)
    await exited(box)
    await box.runtime.remove(WEB_1)
    with socket.create_server(("0.0.0.0", first.address.port + 1)):
        await box.runtime.start(start_order(2, app))
    second = await seen(box, ReplicaId("web-2"))
    assert second is not None
    assert second.address is not None
    assert second.address.port == first.address.port + 2
    leases = json.loads((box.data_dir / "ports.json").read_text())
    assert 55 < leases[str(first.address.port)]["until"] - box.clock.now() <= 60


async def test_each_port_that_the_file_names_is_leased_told_and_given_back(box: Machine) -> None:
    script = "#!/bin/sh\necho $1 $PORT $PORT_5432 $PORT_22; exec sleep 60\n"
    ports = [{"listen": 5432}, {"listen": 5433, "port": 5432}, {"listen": 22}]
    app = app_spec("./show.sh", "${PORT_5432}:$PORT_22,$PORT_1", ports=ports, port=8080)
    await box.unpacked(app, show__sh=script)
    await box.runtime.start(start_order(1, app))
    replica = await seen(box)
    assert replica is not None
    assert replica.address is not None
    main, database, shell = replica.address.port, replica.port_of(5432), replica.port_of(22)
    assert len({main, database, shell}) == 3
    lines = await until(lambda: box.runtime.logs.tail(WEB_1, 1))
    assert lines == (f"{database}:{shell},$PORT_1 {main} {database} {shell}",)
    assert (await box.runtime.exec.run(WEB_1, ["echo", "$PORT_22"], 5)).output == f"{shell}\n"
    await box.close()
    (box.data_dir / "ports.json").unlink()
    await box.open()
    again = await seen(box)
    assert again is not None
    assert again.ports == replica.ports
    leases = json.loads((box.data_dir / "ports.json").read_text())
    assert {int(port): lease["replica"] for port, lease in leases.items() if lease["until"] is None} == {
        main: "web-1",
        database: "web-1:5432",
        shell: "web-1:22",
    }
    await box.runtime.kill(WEB_1)
    await exited(box)
    await box.runtime.remove(WEB_1)
    leases = json.loads((box.data_dir / "ports.json").read_text())
    assert [lease for lease in leases.values() if lease["until"] is None] == []


async def test_an_app_of_tcp_services_alone_has_its_first_one_at_port(box: Machine) -> None:
    app = app_spec(ports=[{"listen": 5432}, {"listen": 22}])
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app))
    replica = await seen(box)
    assert replica is not None
    assert replica.address is not None
    assert replica.port_of(5432) == replica.address.port
    assert replica.port_of(22) != replica.address.port


async def test_ports_that_run_out_half_way_are_all_given_back() -> None:
    async with machine(ports=range(29997, 29999)) as box:
        app = app_spec(ports=[{"listen": 1}, {"listen": 2}, {"listen": 3}])
        await box.unpacked(app)
        with pytest.raises(StartFailed, match="all ports from 29997 to 29998"):
            await box.runtime.start(start_order(1, app))
        leases = json.loads((box.data_dir / "ports.json").read_text())
        assert [lease["until"] is None for lease in leases.values()] == [False, False]


async def test_many_started_at_once_have_a_port_each(box: Machine) -> None:
    app = app_spec()
    await box.unpacked(app)
    await asyncio.gather(*(box.runtime.start(start_order(number, app)) for number in range(1, 13)))
    addresses = {replica.address for replica in (await box.runtime.observe())[0].values()}
    assert len(addresses) == 12


async def test_a_port_that_cannot_be_put_on_record_is_not_leased(box: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    app = app_spec()
    await box.unpacked(app)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(leases, "write_durably", refuse)
        for _ in range(2):
            with pytest.raises(StartFailed, match=r"cannot be put on record .*No space left"):
                await box.runtime.start(start_order(1, app))
    await box.runtime.start(start_order(1, app))
    assert list(json.loads((box.data_dir / "ports.json").read_text()).values()) == [{"replica": "web-1", "until": None}]


async def test_ports_that_run_out_are_told() -> None:
    async with machine(ports=range(29998, 29999)) as box:
        app = app_spec()
        await box.unpacked(app)
        await box.runtime.start(start_order(1, app))
        with pytest.raises(StartFailed, match="all ports from 29998 to 29998"):
            await box.runtime.start(start_order(2, app))
        assert set((await box.runtime.observe())[0]) == {"web-1"}


async def test_a_daemon_that_starts_again_finds_replicas_limits_and_artefacts_as_they_were(box: Machine) -> None:
    app = app_spec()
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app, limits=Limits(memory=64 * 2**20)))
    before = await box.runtime.observe()
    await box.close()
    await box.open()
    assert await box.runtime.observe() == before
    woken: list[str] = []
    box.runtime.on_change(woken.append)
    await box.runtime.kill(WEB_1)
    await exited(box)
    assert set(woken) == {"web"}


async def test_a_killed_keeper_is_started_again_and_the_replica_runs_on(box: Machine) -> None:
    app = app_spec()
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app))
    before = await seen(box)
    pid = box.children.known["web-1"].pid
    woken: list[str] = []
    box.runtime.on_change(woken.append)
    keeper = _keeper_pid(box)
    os.kill(keeper, signal.SIGKILL)

    async def again() -> bool:
        try:
            return _keeper_pid(box) not in (0, keeper) and "web" in woken and await seen(box) == before
        except StepFailed:
            return False

    await until(again)
    assert pid is not None
    assert running(pid)
    await box.runtime.stop(WEB_1)
    ended = await exited(box)
    # The new keeper is not the parent: that it ended is known, how is not.
    assert ended.exit is not None
    assert (ended.exit.code, ended.exit.signal) == (None, None)


@pytest.mark.parametrize("again", [False, True])
async def test_a_keeper_that_is_lost_in_the_middle_of_a_start_is_no_failure_of_the_replica(
    box: Machine, again: bool
) -> None:
    app = app_spec("sleep", "60")
    await box.unpacked(app)
    if again:
        await box.runtime.start(start_order(1, app))
        await box.runtime.kill(WEB_1)
        await exited(box)
    keeper = _keeper_pid(box)
    os.kill(keeper, signal.SIGSTOP)
    starting = asyncio.create_task((box.runtime.restart if again else box.runtime.start)(start_order(1, app)))
    await until(lambda: box.children._waiting)
    os.kill(keeper, signal.SIGKILL)
    await starting
    found = await seen(box)
    assert found is not None
    assert (found.state, found.restarts) == (RunState.RUNNING, int(again))


async def test_a_start_waits_for_the_next_keeper(box: Machine) -> None:
    app = app_spec("sleep", "60")
    await box.unpacked(app)
    os.kill(_keeper_pid(box), signal.SIGKILL)
    await until(lambda: not box.children._connected.is_set())
    await box.runtime.start(start_order(1, app))
    found = await seen(box)
    assert found is not None
    assert found.state is RunState.RUNNING


async def test_while_there_is_no_keeper_observe_fails_instead_of_showing_nothing(box: Machine) -> None:
    os.kill(_keeper_pid(box), signal.SIGKILL)

    async def refused() -> bool:
        try:
            await box.runtime.observe()
        except StepFailed as failure:
            return "the keeper does not answer" in failure.message
        return False

    await until(refused)
    await until(lambda: _answers(box))


async def test_a_keeper_that_cannot_run_is_told_with_its_own_words(box: Machine) -> None:
    broken = Machine(box.data_dir / "sub", {})
    (box.data_dir / "sub/id").write_text("!")
    with pytest.raises(StepFailed, match="does not hold a data directory's id"):
        await broken.open()


async def test_children_that_are_no_replicas_or_have_broken_labels_are_left_alone(
    box: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    await box.children.start(ChildOrder(name="haproxy", argv=["sleep", "60"]))
    meta = {"rota.replica": "web-9", "rota.app": "web"}
    await box.children.start(ChildOrder(name="web-9", argv=["sleep", "60"], meta=meta))
    assert (await box.runtime.observe())[0] == {}
    assert (await box.runtime.observe())[0] == {}
    assert [record.getMessage().count("web-9 cannot be read") for record in caplog.records].count(1) == 1
    assert all(child.alive for child in box.children.known.values())


async def test_kill_ends_grandchildren_that_left_the_session(box: Machine) -> None:
    app = app_spec("./run.sh")
    script = "#!/bin/sh\nsetsid sh -c 'echo $$ > $ROTA_DATA/pid; exec sleep 60' &\nexec sleep 60\n"
    await box.unpacked(app, run__sh=script)
    await box.runtime.start(start_order(1, app))
    file = box.data_dir / "data/web-1/pid"
    pid = int(await until(lambda: file.exists() and file.read_text().strip()))
    await box.runtime.kill(WEB_1)
    await exited(box)
    await until(lambda: not running(pid))


async def test_the_prober_knows_the_sockets_of_a_forked_server(box: Machine) -> None:
    app = app_spec("./server.py", "$PORT")
    await box.unpacked(app, server__py=SERVER)
    await box.runtime.start(start_order(1, app))
    replica = await seen(box)
    assert replica is not None
    address = replica.address
    assert address is not None
    prober = SocketProber(box.runtime.pids_of)

    async def accepted() -> bool:
        return (await prober.accepts(WEB_1, address, 1)).passed

    async def forked() -> bool:
        return len(box.runtime.pids_of(WEB_1) or ()) == 2

    await until(accepted)
    await until(forked)
    stranger = SocketProber(lambda replica: frozenset({os.getpid()}))
    assert "held by another process" in (await stranger.accepts(WEB_1, address, 1)).failure


async def test_running_out_of_memory_is_seen_as_that(box: Machine) -> None:
    if not box.runtime.contains:
        await _limits_are_shown_as_not_enforced(box)
        return
    app = app_spec("python3", "-c", "x = bytearray(200 * 2**20); print(len(x))")
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app, limits=Limits(memory=32 * 2**20)))
    ended = await exited(box)
    assert ended.limits_enforced
    assert ended.exit is not None
    assert (ended.exit.signal, ended.exit.oom) == (9, True)


async def test_where_no_cgroup_is_writable_limits_are_shown_as_not_enforced(tmp_path: Path) -> None:
    async with machine(cgroup_mount=tmp_path / "nothing") as box:
        await _limits_are_shown_as_not_enforced(box)


async def _limits_are_shown_as_not_enforced(box: Machine) -> None:
    app, limits = app_spec(), Limits(memory=64 * 2**20, cpus=1.0)
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app, limits=limits))
    replica = await seen(box)
    assert replica is not None
    assert (replica.limits, replica.limits_enforced) == (limits, False)
    assert box.runtime.pids_of(WEB_1) == {box.children.known["web-1"].pid}
    await box.runtime.update_limits(WEB_1, Limits())
    replica = await seen(box)
    assert replica is not None
    assert (replica.limits, replica.limits_enforced) == (Limits(), True)


async def test_without_cgroups_use_is_added_up_over_the_tree(tmp_path: Path) -> None:
    async with machine(cgroup_mount=tmp_path / "nothing") as box:
        app = app_spec("sh", "-c", "sleep 61 & sleep 62")
        await box.unpacked(app)
        for number in (1, 2):
            await box.runtime.start(start_order(number, app))
        await until(lambda: len(box.runtime.pids_of(WEB_1) or ()) == 3)
        pids = box.runtime.pids_of(WEB_1)
        assert pids is not None
        found = await box.runtime.usage([WEB_1, ReplicaId("web-2"), ReplicaId("web-3")])
        assert set(found) == {"web-1", "web-2"}
        resident = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * 4096
        assert found[WEB_1].memory == pytest.approx(resident, rel=0.2)


async def test_an_app_runs_as_its_user_in_files_of_its_own(box: Machine) -> None:
    if os.geteuid() != 0:
        with pytest.raises(StartFailed, match="does not run as root"):
            await _start_as(box, "daemon")
        return
    await _start_as(box, "nobody")
    nobody = pwd.getpwnam("nobody").pw_uid
    log = box.data_dir / "logs/web/web-1.log"
    await until(lambda: log.read_text().endswith("done\n"))
    assert log.read_text().split() == [str(nobody), "done"]
    assert (box.data_dir / "data/web-1/mine").stat().st_uid == nobody
    assert (box.data_dir / "releases/web/1/built").stat().st_uid == nobody


async def _start_as(box: Machine, user: str) -> None:
    app = app_spec("./run.sh", user=user, build_command=["touch", "built"])
    await box.unpacked(app, run__sh="#!/bin/sh\nid -u\ntouch $ROTA_DATA/mine $TMPDIR/f && echo done\nexec sleep 60\n")
    await box.runtime.start(start_order(1, app))


async def test_an_unknown_user_is_told(box: Machine) -> None:
    app = app_spec(user="not-a-user-here")
    assert "there is no user 'not-a-user-here'" in (await artefact(box, app, None)).reason


async def test_a_build_runs_once_in_the_final_place_and_its_output_is_kept(box: Machine) -> None:
    app = app_spec("./made", build_command=["sh", "-c", "pwd > made; chmod +x made; echo built $PORT; echo x >> count"])
    await box.unpacked(app, README="x")
    await box.unpacked(app, README="x")
    final = box.data_dir / "releases/web/1"
    assert (final / "made").read_text() == f"{final}\n"
    assert (final / "count").read_text() == "x\n"
    assert (box.data_dir / "releases/web/1.build.log").read_text() == "built\n"
    assert box.children.known == {}


async def test_a_failed_build_is_told_with_its_last_lines_and_may_be_tried_again(box: Machine) -> None:
    source = await box.sources.put(one(packed(README="x")))
    app = app_spec(build_command=["sh", "-c", "seq 1 50; exit 4"])
    failed = await artefact(box, app, source)
    assert failed.state is ArtefactState.FAILED
    first, *last = failed.reason.splitlines()
    assert first.endswith("ended with exit code 4")
    assert last == [str(number) for number in range(31, 51)]
    await box.close()
    await box.open()
    assert (await box.runtime.observe())[1]["web", 1] == failed
    good = app_spec(build_command=["true"])
    assert (await artefact(box, good, source)).state is ArtefactState.PREPARED


async def test_a_build_that_takes_too_long_is_ended() -> None:
    async with machine(build_time=0.3) as box:
        app = app_spec(build_command=["sh", "-c", "sleep 60 & echo $! > pid; sleep 60"])
        failed = await artefact(box, app, None)
        assert "still running after" in failed.reason
        assert not running(int((box.data_dir / "releases/web/1/pid").read_text()))


async def test_a_build_that_outlived_its_daemon_is_ended_by_the_next_one(box: Machine) -> None:
    slow = app_spec(build_command=["sh", "-c", "echo $$ > pids; exec sleep 60"])
    await box.runtime.prepare(ReleaseOrder("web", 1, None, slow))
    pids = box.data_dir / "releases/web/1/pids"
    pid = int(await until(lambda: pids.exists() and pids.read_text().strip()))
    await box.close()
    assert running(pid)
    await box.open()
    assert not running(pid)
    assert box.children.known == {}
    assert (await box.runtime.observe())[1] == {}
    assert (await artefact(box, app_spec(build_command=["true"]), None)).state is ArtefactState.PREPARED
    assert not pids.exists()


async def test_a_hostile_or_missing_source_fails_the_release_in_words(box: Machine) -> None:
    hostile = await box.sources.put(one(packed(**{"____/____/evil": "x"})))
    assert "leads upwards" in (await artefact(box, app_spec(), hostile)).reason
    assert "no uploaded source" in (await artefact(box, app_spec(), "0" * 64, release=2)).reason


async def test_a_bug_at_a_release_fails_it_instead_of_leaving_it_in_the_making(
    box: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(directory: Path) -> None:
        raise RecursionError("too deep")

    monkeypatch.setattr(artefacts, "flush", broken)
    failed = await artefact(box, app_spec(), None)
    assert failed.reason == "rota broke at it (RecursionError('too deep')); its log says more"


async def test_forgotten_releases_leave_the_disk(box: Machine) -> None:
    app = app_spec(build_command=["true"])
    for release in (1, 2):
        await artefact(box, app, None, release)
    await box.runtime.forget("web", frozenset({2}))
    assert sorted(path.name for path in (box.data_dir / "releases/web").iterdir()) == ["2", "2.build.log", "2.json"]
    await box.runtime.forget("web", frozenset())
    assert not (box.data_dir / "releases/web").exists()


async def test_started_at_is_on_rotas_clock(box: Machine) -> None:
    app = app_spec()
    await box.unpacked(app)
    before = box.clock.now()
    await box.runtime.start(start_order(1, app))
    replica = await seen(box)
    assert replica is not None
    # Start ticks are hundredths of a second, cut off.
    assert before - 0.011 <= replica.started_at <= box.clock.now()


async def test_an_exit_wakes_at_once(box: Machine) -> None:
    app = app_spec()
    await box.unpacked(app)
    await box.runtime.start(start_order(1, app))
    woken = asyncio.Event()
    box.runtime.on_change(lambda app: woken.set())
    pid = box.children.known["web-1"].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    await woken.wait()  # by the event alone: this runtime is never asked here


def _keeper_pid(box: Machine) -> int:
    """The process that holds the data directory's lock."""
    inode = (box.data_dir / "keeper/lock").stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and int(fields[5].rpartition(":")[2]) == inode:
            return int(fields[4])
    return 0


async def _answers(box: Machine) -> bool:
    try:
        await box.runtime.observe()
    except StepFailed:
        return False
    return True
