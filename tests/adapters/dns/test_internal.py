"""Rota's own names: the table on disk, and the name server that the keeper runs."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dns.asyncquery
import dns.message
import pytest

import rota
from rota.adapters.dns.internal import InternalDns
from rota.adapters.dns.kept import NAMES, KeptNameServer, stop
from rota.adapters.dns.views import DnsViews
from rota.core.errors import Missing, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address, DnsEntry
from rota.testing.machine import machine
from rota.testing.server import free_port

ONE, TWO = (DnsEntry(ReplicaId(f"web-{n}"), n, 1, Address(f"10.0.0.{n}", 20000 + n)) for n in (1, 2))


class Slow:
    """A name server that takes its time, or fails."""

    def __init__(self) -> None:
        self.loaded: list[int] = []
        self.failure = ""

    async def load(self, version: int) -> None:
        await asyncio.sleep(0)
        if self.failure:
            raise StepFailed(self.failure)
        self.loaded.append(version)


async def opened(path: Path, server: Slow) -> InternalDns:
    view = InternalDns(path / "nameserver" / "table.json", server)
    await view.open()
    return view


async def names(view: InternalDns) -> set[str]:
    shown = await view.observe("web", frozenset())
    assert shown is not None
    return {str(name) for name in shown.published}


async def test_the_next_daemon_goes_on_from_the_table(tmp_path: Path) -> None:
    view = await opened(tmp_path, Slow())
    await view.publish("web", ONE)
    following = await opened(tmp_path, Slow())
    assert await names(following) == {"web-1"}
    await following.withdraw("web", ONE.replica)
    assert json.loads((tmp_path / "nameserver/table.json").read_text())["replicas"] == []


async def test_changes_of_one_moment_are_one_version(tmp_path: Path) -> None:
    server = Slow()
    view = await opened(tmp_path, server)
    await asyncio.gather(*(view.publish("web", one) for one in (ONE, TWO)), view.withdraw("web", ReplicaId("web-3")))
    assert await names(view) == {"web-1", "web-2"}
    assert len(server.loaded) == 1


def written(path: Path) -> list[str]:
    return [row["replica"] for row in json.loads((path / "nameserver/table.json").read_text())["replicas"]]


async def test_what_was_written_and_perhaps_not_read_is_shown_as_not_sure_and_can_be_taken_back(tmp_path: Path) -> None:
    """The name server reads the file at its next start, whatever became of the call."""
    server = Slow()
    view = await opened(tmp_path, server)
    server.failure = "no"
    with pytest.raises(StepFailed):
        await view.publish("web", ONE)
    assert await sure(view) == {"web-1": False}
    server.failure = ""
    await view.withdraw("web", ONE.replica)
    assert written(tmp_path) == []
    assert await sure(view) == {}


async def test_what_was_to_be_taken_out_and_perhaps_was_not_is_named_again(tmp_path: Path) -> None:
    server = Slow()
    view = await opened(tmp_path, server)
    await view.publish("web", ONE)
    server.failure = "no"
    with pytest.raises(StepFailed):
        await view.withdraw("web", ONE.replica)
    assert await sure(view) == {"web-1": False}
    server.failure = ""
    await view.publish("web", ONE)
    assert written(tmp_path) == ["web-1"]
    assert await sure(view) == {"web-1": True}


async def test_an_address_that_was_perhaps_changed_is_not_sure(tmp_path: Path) -> None:
    server = Slow()
    view = await opened(tmp_path, server)
    await view.publish("web", ONE)
    server.failure = "no"
    with pytest.raises(StepFailed):
        await view.publish("web", replace(ONE, address=TWO.address))
    assert await sure(view) == {"web-1": False}
    server.failure = ""
    await view.publish("web", ONE)
    assert await sure(view) == {"web-1": True}


async def sure(view: InternalDns) -> dict[str, bool]:
    shown = await view.observe("web", frozenset())
    assert shown is not None
    return {str(name): published.sure for name, published in shown.published.items()}


async def test_a_table_that_cannot_be_written_is_a_failed_step(tmp_path: Path) -> None:
    view = await opened(tmp_path, Slow())
    (tmp_path / "nameserver" / ".table.json.new").mkdir()
    with pytest.raises(StepFailed, match="cannot be written"):
        await view.publish("web", ONE)


async def test_a_ttl_that_was_longer_is_waited_for_after_it_was_lowered(tmp_path: Path) -> None:
    path = tmp_path / "nameserver" / "table.json"
    before = InternalDns(path, Slow(), ttl=3)
    await before.open()
    await before.publish("web", ONE)
    following = InternalDns(path, Slow(), ttl=1)
    await following.open()
    assert (json.loads(path.read_text())["ttl"], written(tmp_path)) == (1, ["web-1"])
    assert await ttl_of(following) == 3, "caches have what was answered a moment ago"
    restarted = InternalDns(path, Slow(), ttl=1)
    await restarted.open()
    assert await ttl_of(restarted) == 3, "they still do"
    again = InternalDns(path, Slow(), ttl=5)
    await again.open()
    assert await ttl_of(again) == 5


async def ttl_of(view: InternalDns) -> float:
    shown = await view.observe("web", frozenset())
    assert shown is not None
    return shown.ttl


class Bridge:
    """A network of containers of which the machine has 127.0.0.9."""

    gateway = "127.0.0.9"
    subnet = "127.0.9.0/24"
    resolvers: tuple[str, ...] = ()


async def test_the_name_server_answers_in_the_network_of_the_containers(component: Callable[[str], Path]) -> None:
    component("root")  # port 53
    async with machine() as made:
        listen = f"127.0.0.1:{free_port()}"
        views = DnsViews(made.children, made.data_dir / "nameserver", listen)
        bridge = Bridge()
        await views.open(bridge)
        assert bridge.resolvers[0] == "127.0.0.9"
        query = dns.message.make_query("rota.internal", "SOA")
        assert (await dns.asyncquery.udp(query, "127.0.0.9", timeout=5)).answer
        assert (await dns.asyncquery.tcp(query, "127.0.0.9", timeout=5)).answer
        pid = made.children.known[NAMES[0]].pid
        again = DnsViews(made.children, made.data_dir / "nameserver", listen)
        await again.open(bridge)
        assert made.children.known[NAMES[0]].pid == pid
        await again.stop()


async def test_containers_do_without_where_their_port_is_taken(
    component: Callable[[str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    component("root")  # port 53
    async with machine() as made:
        with socket.create_server((Bridge.gateway, 53)):
            bridge = Bridge()
            views = DnsViews(made.children, made.data_dir / "nameserver", f"127.0.0.1:{free_port()}")
            await views.open(bridge)
        assert bridge.resolvers == ()
        assert "containers do not find rota's names: cannot listen on 127.0.0.9:53" in caplog.text
        await views.stop()


async def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "nameserver").mkdir()
    (tmp_path / "nameserver/table.json").write_text("{}")
    with pytest.raises(Missing, match=r"table\.json cannot be kept"):
        await opened(tmp_path, Slow())


async def test_the_name_server_outlives_its_daemon_and_moves_when_told() -> None:
    async with machine() as made:
        directory, first, second = made.data_dir / "nameserver", free_port(), free_port()
        views = DnsViews(made.children, directory, f"127.0.0.1:{first}")
        await (await views.open())["internal"].publish("web", ONE)
        pid = made.children.known[NAMES[0]].pid
        again = DnsViews(made.children, directory, f"127.0.0.1:{first}")
        await again.open()
        assert made.children.known[NAMES[0]].pid == pid
        moved = DnsViews(made.children, directory, f"127.0.0.1:{second}")
        await moved.open()
        assert (moved.about() or {})["pid"] not in (None, pid)
        assert (moved.about() or {})["listen"] == f"127.0.0.1:{second}"
        without = DnsViews(made.children, directory)
        assert await without.open() == {}
        assert not set(NAMES) & set(made.children.known)
        assert without.about() is None


async def test_another_rota_s_name_server_takes_over_without_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    async with machine() as made:
        directory, listen = made.data_dir / "nameserver", f"127.0.0.1:{free_port()}"
        views = DnsViews(made.children, directory, listen)
        await (await views.open())["internal"].publish("web", ONE)
        pids, over = {(views.about() or {})["pid"]}, asyncio.Event()
        asking = asyncio.create_task(ask_all_the_time(int(listen.rpartition(":")[2]), over))
        for version in ("99.1", "99.2", "99.2"):
            monkeypatch.setattr(rota, "__version__", version)
            following = DnsViews(made.children, directory, listen)
            internal = (await following.open())["internal"]
            pids.add((following.about() or {})["pid"])
            assert len(set(NAMES) & set(made.children.known)) == 1, "the one before has ended"
            await internal.publish("web", TWO)
        over.set()
        assert await asking > 50
        assert len(pids) == 3, "one for each version"
        await following.stop()


async def ask_all_the_time(port: int, over: asyncio.Event) -> int:
    """Each question on a port of its own, and each has its answer. How many there were."""
    asked = 0
    while not over.is_set():
        answer = await dns.asyncquery.udp(
            dns.message.make_query("web.rota.internal", "A"), "127.0.0.1", timeout=5, port=port
        )
        assert answer.answer
        asked += 1
    return asked


async def test_an_address_in_use_is_named_with_the_way_out() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        async with machine() as made:
            (made.data_dir / "nameserver").mkdir()
            with pytest.raises(Missing, match="give --dns another address"):
                await KeptNameServer(made.children, made.data_dir / "nameserver", [where]).ensure()
            await stop(made.children)
