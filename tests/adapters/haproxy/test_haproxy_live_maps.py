"""The maps of a running HAProxy: what differs from the files is sent, and nothing else; whatever a kill has undone."""

from __future__ import annotations

import os
import signal

import pytest

from rota.adapters.balancer.haproxy.maps import MAPS
from rota.adapters.balancer.haproxy.worker import Haproxy
from rota.testing.haproxy import APP, HOST, Rig, pool, until


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The commands about maps that HAProxy is given, without the versions' numbers."""
    lines: list[str] = []
    tell = Haproxy.tell

    async def noted(self: Haproxy, line: str, **more: object) -> str:
        if " map " in line:
            lines.append(line.splitlines()[0])
        return await tell(self, line, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Haproxy, "tell", noted)
    return lines


async def held(rig: Rig) -> dict[str, set[str]]:
    """What the worker has in each map."""
    haproxy = Haproxy(rig.settings)
    answers = {name: await haproxy.tell(f"show map {name}", accept=("0x",)) for name in MAPS}
    return {name: {line.partition(" ")[2] for line in said.splitlines() if line} for name, said in answers.items()}


def filed(rig: Rig) -> dict[str, set[str]]:
    return {name: set((rig.settings.directory / name).read_text().splitlines()) for name in MAPS}


async def test_one_entry_that_differs_is_one_command(rig: Rig, told: list[str]) -> None:
    backend = pool()
    await rig.ready(1, backend)
    told.clear()
    await rig.balancer.prepare(backend, (HOST,))
    assert told == []
    await rig.balancer.prepare(backend, (HOST, "second.localhost"))
    assert told == ["add map hosts.map second.localhost hello"]
    await rig.balancer.prepare(backend, (HOST,))
    assert told[1:] == ["del map hosts.map second.localhost"]
    assert await held(rig) == filed(rig)
    assert (await rig.client().ask())[0] == 200


async def test_several_entries_change_in_one_moment(rig: Rig, told: list[str]) -> None:
    old, new = pool(), pool("/health/2")
    await rig.ready(1, old)
    await rig.balancer.prepare(new, (HOST,))
    told.clear()
    await rig.balancer.route(APP, {old.name: 50, new.name: 50})
    assert {line.split()[-1] for line in told if line.startswith("commit")} == {"routes.map"}
    assert await held(rig) == filed(rig)
    told.clear()
    await rig.balancer.route(APP, {old.name: 50, new.name: 50})
    assert told == []


async def test_after_a_kill_no_entry_of_before_is_left(rig: Rig) -> None:
    """HAProxy reads a host that it was not told of yet, since its app waits for a reload, and then the app goes."""
    await rig.ready(1, pool())
    haproxy = rig.balancer
    waiting = pool(None, "other")
    state = haproxy._book.state
    await haproxy._book.write(state.with_app(type(state.apps[APP])("other").prepared(waiting, ("other.localhost",))))
    before = (await rig.see()).process
    os.kill(rig.launcher.pid, signal.SIGKILL)

    async def another() -> bool:
        return (await rig.see()).process not in (None, before)

    await until(another, 5)
    assert "other.localhost other" in (await held(rig))["hosts.map"]
    await haproxy.unroute("other")
    assert await held(rig) == filed(rig)
    assert (await rig.client("other.localhost").ask())[0] == 404
