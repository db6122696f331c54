"""The docker runtime on a real engine: what only it promises; the rest is in the contract suite."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from rota.adapters.prober import SocketProber
from rota.adapters.runtime.docker.inspection import Inspection
from rota.core.errors import StartFailed, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import ObservedReplica, RunState
from rota.core.spec import Limits
from rota.testing import images
from rota.testing.dock import Dock, box_spec
from rota.testing.machine import start_order, until

WEB_1 = ReplicaId("web-1")
MIB = 2**20
CAPABILITIES = {  # linux/capability.h
    "CHOWN": 0,
    "DAC_OVERRIDE": 1,
    "FOWNER": 3,
    "KILL": 5,
    "SETGID": 6,
    "SETUID": 7,
    "NET_BIND_SERVICE": 10,
    "SYS_NICE": 23,
}
CONNECTIONS = 100  # that aiohttp opens unless it is told otherwise


@dataclass(frozen=True)
class Rights:
    capabilities: set[int]
    no_new: bool
    processes: str


def in_the_kernel(box: Dock) -> Rights:
    """What web-1's main process may at most, as the kernel itself says."""
    pid = box.runtime.namespace_of(WEB_1)
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    bounds = int(status["CapBnd"], 16)
    groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    place = f"pids{groups['pids']}" if "pids" in groups else groups[""]
    return Rights(
        {number for number in range(64) if bounds >> number & 1},
        no_new=status["NoNewPrivs"] == "1",
        processes=Path("/sys/fs/cgroup", place.lstrip("/"), "pids.max").read_text().strip(),
    )


async def exited(box: Dock, replica: str = "web-1") -> ObservedReplica:
    async def look() -> ObservedReplica | None:
        seen = await box.replica(replica)
        return seen if seen is not None and seen.exit is not None else None

    found = await until(look)
    assert isinstance(found, ObservedReplica)
    return found


async def test_a_container_is_shut_in_by_default(box: Dock) -> None:
    seen = await box.started(box_spec(), limits=Limits(memory=64 * MIB, cpus=0.5))
    assert seen.oddities == ()
    host = (await box.inspect("web-1"))["HostConfig"]
    allowed = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["CapDrop"] == ["ALL"]
    assert [name.removeprefix("CAP_") for name in host["CapAdd"]] == allowed  # newer engines write the prefix
    assert (host["PidsLimit"], host["Init"], host["Privileged"]) == (1024, True, False)
    assert in_the_kernel(box) == Rights({CAPABILITIES[name] for name in allowed}, no_new=True, processes="1024")
    assert host["RestartPolicy"]["Name"] == "no"
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    swap = (
        64 * MIB if box.runtime._table.capability.swap else -1
    )  # which the engine writes for a kernel without account
    assert (host["Memory"], host["MemorySwap"], host["CpuQuota"]) == (64 * MIB, swap, 50_000)
    assert host["PortBindings"] in ({}, None)


async def test_the_init_of_an_image_is_process_1(box: Dock) -> None:
    await box.engine.cli("import", "-c", 'ENTRYPOINT ["/bin/init"]', str(images.busybox()), "test/init:latest")
    app = box_spec(command=[], image={"repository": "test/init"})
    seen = await box.started(app)
    pid = box.runtime.namespace_of(seen.id)
    assert Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == b"init"  # and not docker-init
    await box.engine.cli("rmi", "test/init:latest")


async def test_the_file_opens_a_container_and_closes_it_further(box: Dock) -> None:
    container = {"init": False, "pids": 7, "read_only": True, "no_new_privileges": False, "capabilities": ["SYS_NICE"]}
    app = box_spec("sh", "-c", "touch /tmp/x && ! touch /x && sleep 60", container=container, user="1000")
    await box.started(app)
    inspected = await box.inspect("web-1")
    host = inspected["HostConfig"]
    assert (host["Init"], host["PidsLimit"], host["ReadonlyRootfs"]) == (False, 7, True)
    assert (host["SecurityOpt"] or [], [name.removeprefix("CAP_") for name in host["CapAdd"]]) == ([], ["SYS_NICE"])
    assert in_the_kernel(box) == Rights({CAPABILITIES["SYS_NICE"]}, no_new=False, processes="7")
    assert inspected["Config"]["User"] == "1000"
    assert inspected["State"]["Running"]


async def test_a_replica_finds_its_port_its_names_and_the_files_variables(box: Dock) -> None:
    script = 'echo "$PORT ${0} $ROTA_APP $ROTA_RELEASE $ROTA_SLOT $ROTA_REPLICA $COLOUR"; sleep 60'
    app = box_spec("sh", "-c", script, "at-${PORT}", port=3000, env=[{"name": "COLOUR", "value": "red"}])
    seen = await box.started(app, slot=4)
    assert seen.address is not None
    assert seen.address.port == 3000

    async def told() -> bool:
        return await box.runtime.logs.tail(WEB_1, 5) == ("3000 at-3000 web 1 4 web-1 red",)

    await until(told)


async def test_volumes_and_a_further_network_are_joined(box: Dock, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("hello")
    await box.engine.cli("network", "create", "backstage")
    app = box_spec(
        "sh", "-c", "cat /in/greeting; touch /in/x || touch /kept/x && sleep 60",
        volumes=[f"{tmp_path}:/in:ro", "kept:/kept"],
        network="backstage",
    )  # fmt: skip
    await box.started(app)
    inspected = await box.inspect("web-1")
    assert set(inspected["NetworkSettings"]["Networks"]) == {"backstage", f"rota-{box.server_id[:8]}"}
    assert [(mount["Type"], mount["RW"]) for mount in inspected["Mounts"]] in (
        [("bind", False), ("volume", True)],
        [("volume", True), ("bind", False)],
    )
    await box.runtime.kill(WEB_1)
    await exited(box)
    await box.runtime.remove(WEB_1)
    assert "kept" in await box.engine.cli("volume", "ls", "-q")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"network": "nowhere"}, "there is no network 'nowhere' on this engine; docker network create nowhere"),
        ({"volumes": ["/not/there:/x"]}, "the volume /not/there is not there on the engine's machine"),
        ({"user": "nobody-known"}, "the image has no user 'nobody-known'"),
        ({"command": ["not-a-program"], "container": {"init": False}}, "cannot start 'not-a-program'"),
        ({"command": ["/bin/none"]}, "cannot start '/bin/none': no such file in the image"),
    ],
)
async def test_what_keeps_a_container_from_starting_is_told_and_leaves_nothing(
    box: Dock, fields: dict[str, object], message: str
) -> None:
    app = box_spec(*fields.pop("command", ()), **fields)  # type: ignore[misc]
    await box.prepared(app)
    with pytest.raises(StartFailed) as refused:
        await box.runtime.start(start_order(1, app))
    assert message in refused.value.message
    assert await box.engine.cli("ps", "-aq") == ""


async def test_the_program_of_a_new_app_of_an_old_name_is_looked_for_too(box: Dock) -> None:
    """It counts its releases from 1 again."""
    await box.started(box_spec())
    await box.engine.cli("rm", "-f", box.name("web-1"))
    await box.runtime.forget("web", frozenset())
    app = box_spec("not-a-program")
    await box.prepared(app)
    with pytest.raises(StartFailed, match="cannot start 'not-a-program': no such program in PATH"):
        await box.runtime.start(start_order(2, app))


@pytest.mark.parametrize(
    ("words", "code", "number", "told"),
    [
        (["kill", "web-1"], None, 9, False),
        (["kill", "-s", "USR1", "web-1"], None, 10, False),
        (["stop", "web-1"], None, 15, True),
    ],
)
async def test_a_container_ended_by_hand_is_seen_at_once(
    box: Dock, words: list[str], code: int | None, number: int, told: bool
) -> None:
    await box.started(box_spec())
    box.woken.clear()
    await box.engine.cli(*words[:-1], box.name(words[-1]))
    seen = await exited(box)
    assert seen.exit is not None
    assert (seen.exit.code, seen.exit.signal, seen.told_to_stop) == (code, number, told)
    assert "web" in box.woken


async def test_a_container_removed_by_hand_is_gone_at_once(box: Dock) -> None:
    await box.started(box_spec())
    box.woken.clear()
    await box.engine.cli("rm", "-f", box.name("web-1"))

    async def gone() -> bool:
        return await box.replica() is None

    await until(gone)
    assert "web" in box.woken
    for call in (box.runtime.stop, box.runtime.kill, box.runtime.remove):
        await call(WEB_1)


async def test_running_out_of_memory_is_told(box: Dock) -> None:
    app = box_spec("sh", "-c", "x=$(dd if=/dev/zero bs=1M count=64 | tr '\\0' x); echo $x")
    await box.started(app, limits=Limits(memory=8 * MIB))
    seen = await exited(box)
    assert seen.exit is not None
    assert seen.exit.oom


async def test_limits_are_in_the_kernel_and_taken_back_from_it(box: Dock) -> None:
    await box.started(box_spec())
    container = (await box.inspect("web-1"))["Id"]
    group = Path("/sys/fs/cgroup/memory") / box.engine.directory.name / container
    for limits, shown in ((Limits(memory=32 * MIB, cpus=64.0), 32 * MIB), (Limits(), 2**63 - 4096)):
        await box.runtime.update_limits(WEB_1, limits)
        if group.exists():  # cgroup v1
            assert int((group / "memory.limit_in_bytes").read_text()) == shown
        seen = await box.replica()
        assert seen is not None
        assert (seen.limits, seen.limits_enforced) == (limits, True)


async def test_a_limit_that_the_engine_refuses_changes_nothing(box: Dock) -> None:
    before = await box.started(box_spec())
    with pytest.raises(StepFailed, match=r"web-1 cannot get memory 5 MiB: Minimum memory limit"):
        await box.runtime.update_limits(WEB_1, Limits(memory=5 * MIB))
    assert await box.replica() == before


async def test_what_is_changed_by_hand_is_named_and_shown(box: Dock, caplog: pytest.LogCaptureFixture) -> None:
    for network in ("backstage", "theirs"):
        await box.engine.cli("network", "create", network)
    await box.started(box_spec(network="backstage"), limits=Limits(memory=64 * MIB))
    seen = await box.replica()
    assert seen is not None
    assert seen.oddities == ()
    name = box.name("web-1")
    await box.engine.cli("update", "--memory", "32m", "--memory-swap", "48m", "--restart", "always", name)
    await box.engine.cli("update", "--pids-limit", "50", "--cpuset-cpus", "0", "--cpu-shares", "10", name)
    await box.engine.cli("pause", name)
    await box.engine.cli("rename", name, "mine")
    await box.engine.cli("network", "connect", "theirs", "mine")
    await box.engine.cli("network", "disconnect", "backstage", "mine")
    for sentence in (
        f"the limits of container {name} were changed by hand to memory 32 MiB",
        f"container {name} was changed by hand (docker update --memory-swap {48 * MIB}): rota leaves it so",
        f"container {name} was changed by hand (docker update --pids-limit 50)",
        f"container {name} was changed by hand (docker update --cpuset-cpus 0)",
        f"container {name} was changed by hand (docker update --cpu-shares 10)",
        "container mine was put into the network theirs by hand",
        "container mine was taken out of the network backstage that its file names: docker network connect",
        f"container {name} got the restart policy always by hand",
        f"container {name} is paused by hand",
        f"container {name} was renamed to mine",
    ):
        await until(lambda sentence=sentence: sentence in caplog.text)
    seen = await box.replica()
    assert seen is not None
    assert (seen.state, seen.limits) == (RunState.RUNNING, Limits(memory=32 * MIB))
    assert any("was renamed to mine" in said for said in seen.oddities)
    assert len(seen.oddities) == 10
    await box.runtime.stop(WEB_1)
    seen = await exited(box)
    assert caplog.text.count("limits of container") == 1
    assert caplog.text.count("--pids-limit") == 1


async def test_a_container_taken_out_of_the_network_is_seen_at_once_and_so_is_its_return(box: Dock) -> None:
    before = await box.started(box_spec())
    name, network = box.name("web-1"), f"rota-{box.server_id[:8]}"

    async def reachable() -> bool:
        seen = await box.replica()
        assert seen is not None
        return seen.address is not None

    async def out_of_reach() -> bool:
        return not await reachable()

    await box.engine.cli("network", "disconnect", network, name)
    await until(out_of_reach)
    seen = await box.replica()
    assert seen is not None
    assert seen.oddities == (f"container {name} was taken out of the network {network}: nobody reaches it",)
    assert before.address is not None
    await box.engine.cli("network", "connect", "--ip", before.address.host, network, name)
    await until(reachable)
    assert await box.replica() == before


async def test_ours_is_given_up_when_neither_name_nor_address_is_left(box: Dock) -> None:
    await box.started(box_spec())
    await box.engine.cli("rename", box.name("web-1"), "mine")
    await box.engine.cli("network", "disconnect", f"rota-{box.server_id[:8]}", "mine")

    async def gone() -> bool:
        return await box.replica() is None

    await until(gone)
    assert [one.app for one in box.runtime.strangers()] == ["web"]
    await box.engine.cli("rm", "-f", "mine")
    await until(lambda: not box.runtime.strangers())


async def test_what_is_nobodys_of_ours_is_named_and_left_alone(box: Dock, caplog: pytest.LogCaptureFixture) -> None:
    await box.started(box_spec())
    labels = (await box.inspect("web-1"))["Config"]["Labels"]
    options = [word for name, value in labels.items() for word in ("--label", f"{name}={value}")]
    await box.engine.cli("run", "-d", "--name", "copy", "--network", "none", *options, "test/busybox:1")
    mine = f"rota.server={box.server_id}"
    await box.engine.cli("run", "-d", "--name", "half", "--network", "none", "--label", mine, "test/busybox:1")
    await until(
        lambda: "container half has this server's label, but the label 'rota.replica' is missing" in caplog.text
    )
    await until(lambda: "container copy has this server's label, but its environment has PORT=None" in caplog.text)
    assert set((await box.runtime.observe())[0]) == {"web-1"}
    assert sorted(one.app for one in box.runtime.strangers()) == ["", "web"]
    await box.runtime.kill(WEB_1)
    await exited(box)
    await box.runtime.remove(WEB_1)
    running = await box.engine.cli("ps", "--format", "{{.Names}}")
    assert set(running.split()) == {"copy", "half"}


async def test_a_whole_copy_never_takes_the_place_of_ours(box: Dock, caplog: pytest.LogCaptureFixture) -> None:
    """As tools make them that duplicate a container; whichever a new daemon sees first."""
    before = await box.started(box_spec())
    await box.close()
    config = (await box.inspect("web-1"))["Config"]
    options = [word for name, value in config["Labels"].items() for word in ("--label", f"{name}={value}")]
    options += [word for variable in config["Env"] for word in ("--env", variable)]
    names = [f"copy-{number}" for number in range(5)]
    for name in names:
        await box.engine.cli("run", "-d", "--name", name, "--network", "none", *options, "test/busybox:1")
    await box.open()
    seen = await box.replica()
    assert seen is not None
    assert seen.run == before.run
    assert f"container {names[0]} has this server's label, but neither the name nor the address of web-1" in caplog.text
    await box.engine.cli("rm", "-f", box.name("web-1"))

    async def gone() -> bool:
        return await box.replica() is None

    await until(gone)
    await box.close()
    await box.open()
    assert await box.replica() is None
    assert set((await box.engine.cli("ps", "--format", "{{.Names}}")).split()) == set(names)


async def test_a_copy_that_took_the_name_of_ours_is_left_alone(box: Dock) -> None:
    before = await box.started(box_spec())
    await box.close()
    config = (await box.inspect("web-1"))["Config"]
    await box.engine.cli("rename", box.name("web-1"), "renamed")
    options = [word for name, value in config["Labels"].items() for word in ("--label", f"{name}={value}")]
    options += [word for variable in config["Env"] for word in ("--env", variable)]
    await box.engine.cli("run", "-d", "--name", box.name("web-1"), "--network", "none", *options, "test/busybox:1")
    for _ in range(3):
        await box.open()
        seen = await box.replica()
        assert seen is not None
        assert seen.run == before.run
        await box.close()
    await box.open()


async def test_a_name_that_is_taken_is_told(box: Dock) -> None:
    app = box_spec()
    await box.prepared(app)
    await box.engine.cli("create", "--name", box.name("web-1"), "--network", "none", "test/busybox:1")
    with pytest.raises(StartFailed, match=rf"there is a container {box.name('web-1')} that is not this server's"):
        await box.runtime.start(start_order(1, app))
    assert await box.engine.cli("ps", "-a", "--format", "{{.Names}}") == box.name("web-1")


async def test_a_daemon_that_starts_again_finds_all_as_it_was(box: Dock) -> None:
    app = box_spec("sh", "-c", "trap : TERM; while :; do sleep 0.1; done")
    await box.started(app, slot=3, generation=5, limits=Limits(memory=64 * MIB))
    await box.runtime.kill(WEB_1)
    await exited(box)
    await box.runtime.restart(start_order(1, app, slot=3, generation=6, limits=Limits(cpus=0.25)))
    await box.runtime.start(start_order(2, app))
    await box.runtime.stop(WEB_1)
    before = await box.runtime.observe()
    await box.close()
    await box.open()
    after = await box.runtime.observe()
    # The clock reads the engine's times anew, to the microsecond.
    assert {name: vars(seen) | {"started_at": 0} for name, seen in after[0].items()} == {
        name: vars(seen) | {"started_at": 0} for name, seen in before[0].items()
    }
    assert after[1] == before[1]
    seen = after[0][WEB_1]
    assert (seen.generation, seen.restarts, seen.told_to_stop, seen.limits) == (6, 1, True, Limits(cpus=0.25))


async def test_a_start_that_was_interrupted_is_made_anew(box: Dock) -> None:
    app = box_spec()
    await box.started(app)
    await box.runtime.kill(WEB_1)
    await exited(box)
    inspected = await box.inspect("web-1")
    await box.runtime.remove(WEB_1)
    # What a daemon leaves that is killed between the two calls of a start.
    config = inspected["Config"]
    options = [word for name, value in config["Labels"].items() for word in ("--label", f"{name}={value}")]
    options += [word for value in config["Env"] for word in ("--env", value)]
    await box.engine.cli("create", "--name", box.name("web-1"), *options, "test/busybox:1", "sleep", "60")
    await box.close()
    await box.open()
    assert await box.engine.cli("ps", "-aq") == ""
    await box.runtime.start(start_order(1, app))
    seen = await box.replica()
    assert seen is not None
    assert seen.state is RunState.RUNNING


async def test_an_address_is_not_given_to_another_while_somebody_may_dial_it(box: Dock) -> None:
    app = box_spec()
    first = await box.started(app)
    await box.engine.cli("rm", "-f", box.name("web-1"))

    async def gone() -> bool:
        return await box.replica() is None

    await until(gone)
    await box.close()
    await box.open()
    await box.runtime.start(start_order(2, app))
    second = await box.replica("web-2")
    assert second is not None
    assert second.address != first.address


async def test_an_address_that_somebody_took_is_passed_over(box: Dock) -> None:
    app = box_spec()
    await box.prepared(app)
    network = f"rota-{box.server_id[:8]}"
    await box.engine.cli("run", "-d", "--name", "guest", "--network", network, "test/busybox:1")
    (box.data_dir / "addresses.json").unlink(missing_ok=True)
    taken = await box.engine.cli(
        "inspect", "-f", f'{{{{(index .NetworkSettings.Networks "{network}").IPAddress}}}}', "guest"
    )
    box.runtime._network._leases._next = 0  # type: ignore[union-attr]
    await box.runtime.start(start_order(1, app))
    seen = await box.replica()
    assert seen is not None
    assert seen.address is not None
    assert seen.address.host != taken


async def test_several_start_at_once_and_no_more_than_four(box: Dock, monkeypatch: pytest.MonkeyPatch) -> None:
    app, post = box_spec(), box.runtime._client.post
    await box.prepared(app)
    starting, most = 0, 0

    async def counted(path: str, *words: Any, **named: Any) -> Any:
        nonlocal starting, most
        if not path.endswith("/start"):
            return await post(path, *words, **named)
        starting += 1
        most = max(most, starting)
        await until(lambda: most >= 4)
        try:
            return await post(path, *words, **named)
        finally:
            starting -= 1

    monkeypatch.setattr(box.runtime._client, "post", counted)
    await asyncio.gather(*(box.runtime.start(start_order(number, app)) for number in range(1, 7)))
    seen = (await box.runtime.observe())[0]
    assert len({replica.address for replica in seen.values()}) == 6
    assert {replica.state for replica in seen.values()} == {RunState.RUNNING}
    assert most == 4


async def test_the_own_network_is_made_again_when_somebody_removed_it(box: Dock) -> None:
    app = box_spec()
    await box.prepared(app)
    await box.engine.cli("network", "rm", f"rota-{box.server_id[:8]}")
    await box.runtime.start(start_order(1, app))
    seen = await box.replica()
    assert seen is not None
    assert seen.address is not None


async def test_logs_are_read_and_followed_over_a_restart_in_place(box: Dock) -> None:
    app = box_spec("sh", "-c", "echo one; echo two >&2; sleep 60")
    await box.started(app)
    followed: list[str] = []

    async def follow() -> None:
        async for line in box.runtime.logs.follow(WEB_1, 10):
            followed.append(line.text)

    task = asyncio.create_task(follow())
    await until(lambda: sorted(followed) == ["one", "two"])  # two streams have no order
    assert set(await box.runtime.logs.tail(WEB_1, 10)) == {"one", "two"}
    assert len(await box.runtime.logs.tail(WEB_1, 1)) == 1
    await box.runtime.kill(WEB_1)
    await exited(box)
    await box.runtime.restart(start_order(1, app))
    await until(lambda: sorted(followed) == ["one", "one", "two", "two"])
    await box.runtime.kill(WEB_1)
    await exited(box)
    await box.runtime.remove(WEB_1)
    await asyncio.wait_for(task, 10)
    assert await box.runtime.logs.tail(WEB_1, 10) == ()


async def test_more_followed_logs_than_a_client_keeps_connections_hold_nothing_up(box: Dock) -> None:
    await box.started(box_spec("sh", "-c", "echo one; sleep 60"))
    begun = set[int]()

    async def follow(number: int) -> None:
        async for _ in box.runtime.logs.follow(WEB_1, 1):
            begun.add(number)

    following = [asyncio.create_task(follow(number)) for number in range(CONNECTIONS + 1)]
    try:
        await until(lambda: len(begun) > CONNECTIONS)
        await box.runtime.update_limits(WEB_1, Limits(memory=64 * MIB))
    finally:
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)


async def test_the_last_words_of_an_app_are_kept_ended_or_not(box: Dock) -> None:
    await box.started(box_spec("sh", "-c", "echo one; printf two; exit 3"))
    await exited(box)
    assert await box.runtime.logs.tail(WEB_1, 10) == ("one", "two")
    assert await box.runtime.logs.tail(WEB_1, 1) == ("two",)


@pytest.mark.parametrize(
    ("listens", "failure"),
    [
        ("0.0.0.0:3000", "connection refused: it listens on 0.0.0.0 port 3000, not on {address} port 8080 ($PORT)"),
        ("127.0.0.1:8080", "connection refused: it listens on port 8080 of 127.0.0.1 inside its container"),
    ],
)
async def test_where_a_container_listens_instead_is_told(box: Dock, listens: str, failure: str) -> None:
    seen = await box.started(box_spec("httpd", "-f", "-p", listens))
    assert seen.address is not None
    address = seen.address
    prober = SocketProber(box.runtime.pids_of, box.runtime.namespace_of)

    async def told() -> bool:
        return failure.format(address=address.host) in (await prober.accepts(WEB_1, address, 1)).failure

    await until(told)


async def test_a_process_that_only_has_the_number_is_not_asked_where_it_listens(box: Dock) -> None:
    """A daemon in a container of its own sees other processes under the numbers that the engine says."""
    await box.started(box_spec())
    assert box.runtime.namespace_of(WEB_1) is not None
    raw = await box.inspect("web-1")
    box.runtime._table._take(Inspection({**raw, "State": {**raw["State"], "Pid": os.getpid()}}))
    assert box.runtime.namespace_of(WEB_1) is None


async def test_signals_have_the_apps_own_number(box: Dock) -> None:
    await box.started(box_spec(stop_signal="SIGQUIT"))
    await box.runtime.stop(WEB_1)
    seen = await exited(box)
    assert seen.exit is not None
    assert seen.exit.signal == signal.SIGQUIT
