"""A real engine at a TCP port behind TLS: whoever has the right certificates works with it, and nobody else."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from rota.adapters.runtime.docker.client import Client
from rota.core.errors import Missing
from rota.core.observation import RunState
from rota.testing.dock import Dock, box_spec, dock
from rota.testing.docker import DockerEngine, docker_engine
from rota.testing.machine import until
from rota.testing.tls import Authority


@pytest.fixture(scope="module")
def engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    component("docker-engine")
    with docker_engine(tls=True) as made:
        yield made


@pytest_asyncio.fixture
async def box(engine: DockerEngine, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Dock]:
    with_certificates_of(monkeypatch, engine.client)
    async with dock(engine, engine.tls_host) as made:
        yield made


@pytest.mark.feature("H1")
async def test_a_replica_lives_and_dies_over_tls(box: Dock) -> None:
    """Its start, output, a command in it, its end as an event tells it, and its removal."""
    first = await box.started(box_spec("sh", "-c", "echo hello; sleep 60"))
    assert first.state is RunState.RUNNING

    async def written() -> bool:
        return await box.runtime.logs.tail(first.id, 1) == ("hello",)

    await until(written)
    ran = await box.runtime.exec.run(first.id, ("echo", "beside"), timeout=20.0)
    assert (ran.code, ran.output) == (0, "beside\n")
    await box.runtime.kill(first.id)

    async def ended() -> bool:
        seen = await box.replica()
        return seen is not None and seen.exit is not None and seen.exit.signal == 9

    await until(ended)
    await box.runtime.remove(first.id)
    assert await box.replica() is None
    found = await box.runtime.certificates()
    assert len(found) == 3, found
    assert all(0 < one.expires_at - time.time() < 3 * 86400 for one in found)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ca.pem", "cert.pem", "key.pem"}, "cannot be trusted (CERTIFICATE_VERIFY_FAILED); check DOCKER_CERT_PATH"),
        ({"cert.pem", "key.pem"}, "does not trust this client (SSLV3_ALERT_BAD_CERTIFICATE); check DOCKER_CERT_PATH"),
        (set[str](), "an HTTP request to an HTTPS server; set DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"),
    ],
    ids=["another authority", "another's client", "no TLS"],
)
async def test_whoever_has_not_the_right_certificates_is_told(
    given: set[str], said: str, engine: DockerEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``given`` are another authority's, the others are the engine's."""
    Authority("another").client(tmp_path)
    for name in {"ca.pem", "cert.pem", "key.pem"} - given:
        (tmp_path / name).write_bytes((engine.client / name).read_bytes())
    with_certificates_of(monkeypatch, tmp_path)
    if not given:
        monkeypatch.delenv("DOCKER_TLS_VERIFY")
    client = Client(engine.tls_host, tmp_path)
    with pytest.raises(Missing, match=re.escape(f"the Docker engine at {engine.tls_host} ")) as told:
        await client.open()
    await client.close()
    assert told.value.message.endswith(said)


def with_certificates_of(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(directory))
