"""A machine that is switched off and on: `rota serve` finds nothing running and brings everything back as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.e2e.conftest import new_hello
from tests.e2e.running import Hello, Server, until

from rota.testing.post import Hook, web_hook


@pytest.fixture(scope="module")
def hook() -> Iterator[Hook]:
    with web_hook() as made:
        yield made


@pytest.fixture(scope="module")
def own(component: Callable[[str], Path]) -> Iterator[Server]:
    """A server of its own: it is switched off."""
    component("haproxy")
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.end()


@pytest.fixture(scope="module")
def app(own: Server, hook: Hook, tmp_path_factory: pytest.TempPathFactory) -> Hello:
    hello = new_hello(own, tmp_path_factory.mktemp("reboot") / "hello")
    return hello.deployed(replicas=3, notify=[hook.url], stop_grace_period="1s")


def back(app: Hello) -> None:
    """As many as asked for, one a slot, and they answer."""
    until(lambda: [replica["phase"] for replica in app.replicas] == ["ready"] * 3, 60)
    assert [replica["slot"] for replica in app.replicas] == [1, 2, 3]
    assert {app.request().status for _ in range(6)} == {200}


@pytest.mark.feature("R4", "W2")
def test_a_release_that_was_on_trial_is_back_and_nobody_is_told_of_a_crash_loop(
    app: Hello, own: Server, hook: Hook
) -> None:
    app.write(replicas=3, notify=[hook.url], stop_grace_period="1s", env={"VERSION": "2"}, rollout={"monitor": "5m"})
    own.ok("deploy", cwd=app.directory)
    before = app.ids
    own.switch_off()
    own.start()
    back(app)
    assert not set(before) & set(app.ids)
    assert {replica["release"] for replica in app.replicas} == {2}
    assert [entry["kind"] for entry in own.api(f"rollouts?app={app.name}")["rollouts"]] == ["deploy", "deploy"]
    said = own.ok("doctor", app.name).out
    assert f"{app.name}  3 of 3 serve" in said
    assert hook.taken == []


@pytest.mark.full
@pytest.mark.feature("R4")
def test_a_restart_that_was_under_way_goes_on(app: Hello, own: Server) -> None:
    own.ok("restart", app.name, "--delay", "1s", "--detach")
    until(lambda: any(replica["phase"] == "starting" for replica in app.replicas))
    own.switch_off()
    own.start()
    until(lambda: own.api(f"rollouts?app={app.name}")["rollouts"][0]["phase"] == "succeeded", 60)
    back(app)
    assert {replica["generation"] for replica in app.replicas} == {3}
