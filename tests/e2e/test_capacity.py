"""What an app takes of its machine: what does not fit is refused before anything starts, what runs is measured."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from tests.e2e.running import Hello, until
from tests.e2e.scenario import same_on_both

from rota.testing.server import Answer


def free(refused: Answer) -> int:
    """MiB, as a refusal has it."""
    found = re.search(r"\(([\d,]+) of [\d,]+ MiB free, [\d,]+ MiB (kept back|used by others)", refused.err)
    assert found is not None, refused.err
    return int(found[1].replace(",", ""))


@same_on_both
@pytest.mark.feature("H9")
def test_what_does_not_fit_is_refused_with_the_numbers_and_nothing_is_changed(hello: Hello) -> None:
    hello.write(replicas=2, resources={"memory": "900TiB"})
    refused = hello.deploy()
    assert (refused.code, refused.out) == (3, "")
    assert "2 replicas need 1,887,436,800 MiB of memory" in refused.err
    assert "none fits" in refused.err
    memory = f"{free(refused) * 3 // 10}MiB"  # three fit and four do not, whatever others do meanwhile
    hello.write(replicas=4, resources={"memory": memory}, stop_grace_period="1s")
    assert "; 3 fit; " in hello.deploy().err
    assert hello.name not in hello.server.ok("ls").out

    hello.deployed(replicas=3, resources={"memory": memory}, stop_grace_period="1s")
    before = hello.ids
    rollouts = hello.server.api(f"rollouts?app={hello.name}")
    for words, said in (
        (("restart", hello.name), "3 replicas and 1 more while they are replaced need"),
        (("limits", hello.name, "--cpus", "1000"), "3,000 CPUs"),
        (("scale", f"{hello.name}=4"), "4 replicas need"),
    ):
        refused = hello.server.rota(*words)
        assert refused.code == 3
        assert said.replace(",", "") in refused.err.replace(",", "")
    assert "--order stop-first fits" in hello.server.rota("restart", hello.name).err
    assert hello.ids == before
    assert hello.server.api(f"rollouts?app={hello.name}") == rollouts
    hello.server.ok("restart", hello.name, "--order", "stop-first")
    assert len(hello.ids) == 3
    assert not set(hello.ids) & set(before)


@contextmanager
def another_program(memory: int) -> Iterator[None]:
    """It uses that much, and has nothing to do with rota."""
    script = f"b = bytearray({memory}); b[::4096] = b'x' * len(b[::4096]); print('there', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        program.stdout.readline()
        yield
        program.communicate(b"\n")


@same_on_both
@pytest.mark.feature("H9")
def test_memory_that_another_program_uses_is_not_free(hello: Hello) -> None:
    def left() -> int:
        return free(hello.server.rota("limits", hello.name, "--memory", "900TiB"))

    hello.deployed(replicas=2, resources={"memory": "64MiB"})
    before = left()
    with another_program(1024 * 2**20):
        assert left() < before - 512  # MiB; tests beside this one use some, too
    until(lambda: left() > before - 512)


@pytest.mark.feature("H9")
def test_cpus_are_checked_where_they_are_named(hello: Hello) -> None:
    hello.write(replicas=3, resources={"cpus": 512.0})
    refused = hello.deploy()
    assert refused.code == 3
    assert re.search(r"3 replicas need 1536 CPUs \([\d.]+ of [\d.]+ free\); none fits", refused.err)


@pytest.mark.feature("V1")
def test_statistics_of_every_replica_and_backend(hello: Hello) -> None:
    hello.deployed(replicas=2, resources={"memory": "256MiB"})
    served = [hello.request().replica for _ in range(10)]

    def stats() -> Any:
        return hello.server.ok("stats", hello.name, "--json").json

    until(lambda: [backend["requests"] for backend in stats()["backends"]] == [10])
    view = stats()
    assert {replica["id"]: replica["requests"] for replica in view["replicas"]} == {
        id: served.count(id) for id in hello.ids
    }
    for replica in view["replicas"]:
        assert 2**20 < replica["memory"]["used"] < replica["memory"]["limit"] == 256 * 2**20
        assert 0.0 <= replica["cpu"]["percent"] <= 400.0
        assert replica["cpu"]["seconds"] >= 0.25
        assert (replica["app_errors"], replica["open"]) == (0, 0)
    everything = hello.server.ok("stats", "--json").json["apps"]
    assert hello.name in [app["app"] for app in everything]
    table = hello.server.ok("stats", hello.name).out
    assert table.startswith("REPLICA")
    assert "MiB of 256.0 MiB" in table
