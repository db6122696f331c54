"""What makes a rollout hard, under load on a real server: nothing is lost where a floor is kept, and what cannot be is
told. On both runtimes in the long form; in the short one test_faults and test_strategies show Docker."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from tests.e2e.scenario import FULL, LIGHT, Hello, nothing_lost, same_on_both, succeeded
from tests.e2e.site import ServerAt, Site

pytestmark = [same_on_both, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300 if FULL else 120)]

QUICK_CHECK = {"interval": 0.5, "fast_interval": 0.1}
_numbers = itertools.count(1)
UPLOAD_SECONDS = 60.0 if FULL else 3.0
SOCKETS = 200 if FULL else 40  # they end in shares, and so many take ten seconds
CUT_AFTER = 1.0  # seconds
TICK = 0.02  # seconds: as exactly as the kernel tells when a process was started, and a receipt's times are given


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def app(site: Site) -> AsyncIterator[Hello]:
    """One app for all, of two replicas between the tests."""
    async with ServerAt(site) as server:
        hello = Hello(
            server, "hard", replicas=2, stop_grace_period=0.3, health_check=QUICK_CHECK, drain={"timeout": 20}
        )
        await hello.deploy_ok()
        yield hello


@asynccontextmanager
async def lossless(app: Hello) -> AsyncIterator[None]:
    """Under a small load, of which nothing may be lost."""
    async with app.load(**LIGHT) as load:
        yield
        nothing_lost(await load.stop())


async def begun(app: Hello, *words: str) -> str:
    """A rollout's id, once one of its replicas is there."""
    before = set(await app.ready())
    rollout = (await app.server.ok(*words, "--detach", cwd=app.directory)).out.strip()

    async def holds() -> bool:
        return bool({replica["id"] for replica in await app.server.replicas(app.name)} - before)

    await app.server.until(holds)
    return rollout


def at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def times(rollout: dict[str, Any], step: str) -> dict[str, float]:
    """When a step was decided on, by replica."""
    return {entry["replica"]: at(entry["at"]) for entry in rollout["steps"] if entry["step"] == step}


def kept_whole(rollout: dict[str, Any]) -> None:
    receipt = rollout["receipt"]
    assert (receipt["failed"], receipt["cut"], receipt["gaps"], receipt["complete"]) == (0, 0, [], True)


@pytest.mark.feature("V2", "V6", "S1")
async def test_one_replica_alone_is_replaced_start_first(app: Hello) -> None:
    await app.server.ok("scale", f"{app.name}=1")
    async with lossless(app):
        restarted = await app.order("restart")
        app.version += 1
        deployed = await app.deploy_ok(replicas=1)
    for rollout in (restarted, deployed):
        assert rollout["policy"]["order"] == "start-first"
        kept_whole(rollout)
    app.keys["replicas"] = 2
    await app.server.ok("scale", f"{app.name}=2")


@pytest.mark.feature("S7", "V6")
async def test_an_app_that_ignores_sigterm_is_killed_after_its_last_answer(app: Hello) -> None:
    assert (await app.deploy_new(env={"HELLO_IGNORE_TERM": "1"})).code == 0
    old = await app.ready()
    async with lossless(app):
        rollout = await app.order("restart")
    kept_whole(rollout)
    stopped, killed = times(rollout, "StopReplica"), times(rollout, "KillReplica")
    assert set(killed) == set(old)
    assert all(killed[replica] >= stopped[replica] + 0.3 for replica in old)
    assert (await app.deploy_new()).code == 0


@pytest.mark.feature("V6", "W3", "R5")
async def test_a_scale_down_in_the_middle_ends_with_fewer(app: Hello) -> None:
    await app.server.ok("scale", f"{app.name}=3")
    async with lossless(app):
        await begun(app, "restart", app.name, "--delay", "1s")
        await app.server.ok("scale", f"{app.name}=2")
        rollout = await app.rollout_ended()
    assert (rollout["kind"], rollout["phase"]) == ("restart", "succeeded")
    kept_whole(rollout)
    await app.settled(2)


@pytest.mark.feature("H3", "R8")
async def test_with_every_replica_unhealthy_a_healthy_release_comes_up(app: Hello) -> None:
    """Nobody is served before its first replica is there, and nothing is lost from then on."""
    ill = await app.ready()
    for replica in ill:
        await app.tell(replica, "/health/off")

    async def nobody_serves() -> bool:
        return not await app.ready()

    await app.server.until(nobody_serves)
    app.version += 1
    await app.deploy("--detach", "--delay", "2s")

    async def first_is_there() -> bool:
        return len(await app.ready()) == 1

    await app.server.until(first_is_there)
    async with lossless(app):
        rollout = await app.rollout_ended()
    assert rollout["phase"] == "succeeded"
    (gap,) = rollout["receipt"]["gaps"]
    assert gap["until"] is not None
    assert set(await app.ready()).isdisjoint(ill)


@pytest.mark.feature("V6", "H3")
async def test_a_release_may_change_the_path_of_its_health_check(app: Hello) -> None:
    """What the old one does not know comes with a pool of its own: no replica is judged by the other's path."""
    async with lossless(app):
        app.version += 1
        kept_whole(await app.deploy_ok(health_check_path="/version"))


@pytest.mark.feature("R5", "V6")
async def test_a_second_deploy_is_refused_or_takes_the_place_of_the_first(app: Hello) -> None:
    async with lossless(app):
        app.version += 1
        await app.deploy("--detach", "--delay", "300s")
        first = (await app.server.get(f"/api/v1/rollouts?app={app.name}&limit=1"))["rollouts"][0]["id"]
        refused = await app.deploy_new()
        assert refused.code == 1
        assert f"{first} (deploy) is under way" in refused.err
        second = await app.deploy_ok("--supersede")
    kept_whole(second)
    given_up = await app.server.get(f"/api/v1/rollouts/{first}")
    assert (given_up["phase"], given_up["reason"]) == ("cancelled", "superseded")
    assert {one["release"] for one in await app.server.replicas(app.name)} == {second["to_release"]}


@pytest.mark.feature("R5", "V6")
async def test_a_pause_finishes_the_hand_off_under_way_and_resume_the_rest(app: Hello) -> None:
    old = set(await app.ready())
    async with lossless(app):
        async with held_sockets(app, 4):  # on both: whichever goes first is held up
            rolling = await begun(app, "restart", app.name)
            going = await draining(app)
            asked = await app.server.ok("rollout", "pause", rolling, "--json")
            assert asked.json["phase"] == "progressing"
            assert await draining(app) == going
        paused = await app.rollout_ended(phase="paused")
        await app.settled(2)
        assert old - set(await app.ready()) == {going} == set(times(paused, "StopReplica"))
        assert len(times(paused, "StartReplica")) == 1
        await app.server.ok("rollout", "resume", rolling)
        rollout = await app.rollout_ended()
    assert rollout["phase"] == "succeeded"
    kept_whole(rollout)
    assert set(times(rollout, "StopReplica")) == old


async def draining(app: Hello) -> str:
    async def found() -> str | None:
        replicas = await app.server.replicas(app.name)
        return next((replica["id"] for replica in replicas if replica["phase"] == "draining"), None)

    return str(await app.server.until(found))


@pytest.mark.feature("R5", "V6")
async def test_an_abort_half_way_brings_the_old_release_back(app: Hello) -> None:
    old = set(await app.ready())
    async with lossless(app):
        rolling = (await app.deploy_new("--detach", "--delay", "300s")).json

        async def half_way() -> bool:
            return len(old & {replica["id"] for replica in await app.server.replicas(app.name)}) == 1

        await app.server.until(half_way)
        await app.settled(2)
        await app.server.ok("rollout", "abort", rolling["id"])
        rollout = await app.rollout_ended()
    assert (rollout["phase"], rollout["reason"]) == ("cancelled", "cancelled")
    kept_whole(rollout)
    assert {one["release"] for one in await app.server.replicas(app.name)} == {rolling["from_release"]}
    assert len(old & set(await app.ready())) == 1


@pytest.mark.feature("W6", "V6")
@pytest.mark.parametrize(
    "flags",
    [
        ("--failure-action", "continue"),
        pytest.param(("--max-failure-ratio", "0.5"), marks=pytest.mark.full),
    ],
)
async def test_a_slot_that_fails_is_left_as_it_was(app: Hello, flags: tuple[str, str]) -> None:
    before, slot = dict(app.keys), "import os; os.environ['ROTA_SLOT'] == '1' and exit(3); "
    async with lossless(app):
        answer = await app.deploy_new(
            *flags, command=["python3", "-c", f"{slot}os.execlp('python3', 'python3', 'app.py')"]
        )
    app.keys = before
    rollout = succeeded(answer)
    assert rollout["detail"] == "slots left as they were: 1"
    kept_whole(rollout)
    releases = {one["slot"]: one["release"] for one in await app.server.replicas(app.name)}
    assert releases == {1: rollout["from_release"], 2: rollout["to_release"]}
    assert (await app.deploy_new()).code == 0


@pytest.mark.feature("R8", "R5")
async def test_a_rollback_that_fails_pauses_and_is_tried_no_further(app: Hello) -> None:
    """Though the slot's next try would be due at once, and the loop has much to decide meanwhile."""
    before, marker = dict(app.keys), app.directory / "crash"
    crash = f"import os; os.path.exists({str(marker)!r}) and exit(3); os.execlp('python3', 'python3', 'app.py')"
    seen = {"volumes": [f"{app.directory}:{app.directory}"]} if app.server.site.name == "docker" else {}
    app.keys["restart"] = {"delay": "10ms", "max_delay": "100ms"}
    there = succeeded(await app.deploy_new(**seen, command=["python3", "-c", crash]))
    app.keys = before | {"restart": app.keys["restart"]}
    current = succeeded(await app.deploy_new())["to_release"]
    marker.touch()
    async with lossless(app):
        failed = await app.server.cli("rollback", app.name, str(there["to_release"]), "--json")
    assert (failed.code, failed.json["phase"], failed.json["reason"]) == (8, "paused", "crashed")
    for place in (1, 0):  # in the slot that the rollback has not come to, and in the one where it failed
        killed = (await serving_of(app, current))[place]
        await app.server.kill_replica(killed)
        await app.server.until(partial(replaced, app, current, killed))
    newest = (await app.server.get(f"/api/v1/rollouts?app={app.name}&limit=1"))["rollouts"][0]
    assert (newest["id"], newest["phase"]) == (failed.json["id"], "paused"), "nothing begins by itself"
    steps = (await app.server.get(f"/api/v1/rollouts/{newest['id']}"))["steps"]
    assert [step["step"] for step in steps].count("StartReplica") == 1 + 2  # two to replace what was killed
    await app.server.ok("rollout", "abort", newest["id"])
    ended = await app.rollout_ended()
    assert ended["phase"] == "cancelled"
    assert {one["release"] for one in await app.server.replicas(app.name)} == {current}
    app.keys = before
    marker.unlink()


async def serving_of(app: Hello, release: int) -> list[str]:
    replicas = await app.server.replicas(app.name)
    return [one["id"] for one in replicas if (one["phase"], one["release"]) == ("ready", release)]


async def replaced(app: Hello, release: int, gone: str) -> bool:
    serving = await serving_of(app, release)
    return len(serving) == 2 and gone not in serving


@pytest.mark.feature("V7", "V6", "R2")
async def test_a_long_upload_ends_before_its_replica_does(app: Hello) -> None:
    """It is longer than everything else that the rollout waits for, and shorter than the drain's deadline."""
    await app.deploy_ok(drain={"timeout": "90s"})
    may_end = asyncio.Event()
    upload = asyncio.create_task(slow_upload(app, UPLOAD_SECONDS, may_end))
    async with lossless(app):
        restart = asyncio.create_task(app.order("restart"))
        holder = await drained_in_vain(app, UPLOAD_SECONDS / 3)
        may_end.set()
        answered_by, almost_sent_at = await upload
        rollout = await restart
    kept_whole(rollout)
    assert answered_by == holder
    disabled, stopped = times(rollout, "DisableServer"), times(rollout, "StopReplica")
    assert disabled[holder] < almost_sent_at < stopped[holder]


async def drained_in_vain(app: Hello, seconds: float) -> str:
    """The first replica that has been draining for so long, far longer than the load's own requests would have it."""
    since: dict[str, float] = {}

    async def holds() -> bool:
        replicas = await app.server.replicas(app.name)
        draining = {replica["id"] for replica in replicas if replica["phase"] == "draining"}
        for replica in draining:
            since.setdefault(replica, time.monotonic())
        return any(time.monotonic() >= since[replica] + seconds for replica in draining)

    await app.server.until(holds, 85.0)
    return max(since, key=lambda replica: since[replica])


async def slow_upload(app: Hello, seconds: float, may_end: asyncio.Event) -> tuple[str, float]:
    """A POST whose body takes so long at least, and until it may end; who answered it, and a moment shortly before the
    last of it was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", app.server.http_port)
    parts = [bytes([65 + number % 26]) * 1024 for number in range(100)]
    head = f"POST /echo HTTP/1.1\r\nHost: {app.host}\r\nContent-Length: {sum(map(len, parts))}\r\n\r\n"
    writer.write(head.encode())
    for part in parts[:-1]:
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(seconds / len(parts))
    await may_end.wait()
    almost_sent_at = time.time()
    writer.write(parts[-1])
    answer = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert answer.startswith("HTTP/1.1 200 "), answer
    assert await reader.readexactly(sum(map(len, parts))) == b"".join(parts)
    writer.close()
    return header(answer, "X-Rota-Replica"), almost_sent_at


def header(head: str, name: str) -> str:
    return next(line.partition(": ")[2] for line in head.splitlines() if line.lower().startswith(f"{name.lower()}:"))


@dataclass
class Socket:
    """A WebSocket that is never used: who holds it, and when the other side closed it."""

    replica: str
    closed: asyncio.Task[float]


@asynccontextmanager
async def held_sockets(app: Hello, number: int) -> AsyncIterator[Sequence[Socket]]:
    async with AsyncExitStack() as ending:
        yield [await _held(app, ending) for _ in range(number)]


async def _held(app: Hello, ending: AsyncExitStack) -> Socket:
    reader, writer = await asyncio.open_connection("127.0.0.1", app.server.http_port)
    ending.callback(writer.close)
    wish = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    writer.write(f"GET /ws HTTP/1.1\r\nHost: {app.host}\r\n{wish}{key}\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    assert head.startswith("HTTP/1.1 101 "), head

    async def until_closed() -> float:
        await reader.read()
        return time.monotonic()

    closed = asyncio.create_task(until_closed())
    ending.callback(closed.cancel)
    return Socket(header(head, "X-Rota-Replica"), closed)


@pytest.mark.feature("V7", "R1")
async def test_sockets_that_stay_open_are_cut_at_the_deadline_not_before_and_counted(app: Hello) -> None:
    await app.deploy_ok(drain={"timeout": CUT_AFTER})
    async with held_sockets(app, SOCKETS) as sockets, lossless(app):
        began = time.monotonic()
        rollout = await app.order("restart")
        closed_at = [await socket.closed for socket in sockets]
    assert min(closed_at) >= began + CUT_AFTER
    disabled, cut = times(rollout, "DisableServer"), times(rollout, "CutConnections")
    assert set(cut) == {socket.replica for socket in sockets} == set(disabled)
    assert all(cut[replica] >= disabled[replica] + CUT_AFTER for replica in cut)
    assert (rollout["receipt"]["cut"], rollout["receipt"]["failed"]) == (SOCKETS, 0)
    app.keys["drain"] = {"timeout": 20}


@pytest.mark.feature("V6", "R4")
async def test_another_app_is_added_while_this_one_rolls(app: Hello) -> None:
    """Its pool comes by a reload of HAProxy, whose old process still knows the replicas that go."""
    beside = Hello(app.server, f"beside{next(_numbers)}", replicas=1)
    async with lossless(app):
        rolling = await begun(app, "restart", app.name, "--delay", "300s")
        await beside.deploy_ok()
        async with lossless(beside):
            await app.server.ok("rollout", "set", rolling, "--delay", "0")
            rollout = await app.rollout_ended()
    assert rollout["phase"] == "succeeded"
    kept_whole(rollout)
    await app.server.ok("remove", beside.name, "--yes")


@pytest.mark.feature("R4", "R1")
async def test_a_killed_haproxy_loses_what_was_open_in_the_gap_that_the_receipt_names(app: Hello) -> None:
    """Whoever came later waited for the next. The last test here: its successor has no idle connections of before."""
    async with app.load(**LIGHT) as load:
        rolling = await begun(app, "restart", app.name, "--delay", "300s")
        before = app.server.child("haproxy")["pid"]
        killed = time.time()
        app.server.kill_child("haproxy")

        async def another_serves() -> bool:
            return app.server.child("haproxy")["pid"] != before and await answers(app)

        await app.server.until(another_serves)
        await app.server.ok("rollout", "set", rolling, "--delay", "0")
        rollout = await app.rollout_ended()
        report = await load.stop()
    assert (rollout["phase"], rollout["receipt"]["complete"]) == ("succeeded", False)
    (gap,) = [gap for gap in rollout["receipt"]["gaps"] if gap["reason"] == "HAProxy was not running"]
    assert gap["last_look"]["requests_per_second"] > 0
    expected = gap["last_look"]["requests_per_second"] * gap["seconds"]
    assert gap["came_meanwhile"]["requests"] == pytest.approx(expected, abs=1)
    since = at(gap["since"])
    assert killed - TICK <= since <= at(gap["until"])
    assert report.lost == len(report.samples), "the load is too large for this test"
    astray = [lost for lost in report.samples if lost.ended_at < killed or lost.sent_at > since + TICK]
    assert not astray, (gap, astray)


async def answers(app: Hello) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", app.server.http_port)
    except OSError:
        return False
    writer.write(f"GET / HTTP/1.0\r\nHost: {app.host}\r\n\r\n".encode())
    line = await reader.readline()
    writer.close()
    return line.split()[1:2] == [b"200"]
