"""rota doctor on broken apps of a real server, and on the host where no server answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from tests.e2e.conftest import new_hello
from tests.e2e.running import Hello, Server
from tests.e2e.scenario import same_on_both

from rota.testing.server import free_port


@pytest.fixture(scope="module")
def app(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    hello = new_hello(server, tmp_path_factory.mktemp("doctor") / "hello")
    yield hello.deployed(replicas=1)
    server.ok("remove", hello.name, "--yes", "--supersede")


def broken(app: Hello, **keys: object) -> str:
    """What doctor says of an app whose last deploy failed."""
    app.write(**{"replicas": 1, "boot_timeout": "500ms", "stop_grace_period": "1s", **keys})  # type: ignore[arg-type]
    assert app.deploy().code in (5, 6)
    return app.server.ok("doctor", app.name).out


@pytest.mark.feature("H12", "R9")
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"command": ["python3", "-c", "import os; os.environ['DATABASE_URL']"]},
            "the variable DATABASE_URL is missing",
        ),
        ({"command": ["nosuchprogram"]}, "cannot start 'nosuchprogram'"),
        ({"boot_timeout": "3s", "env": {"HELLO_UNHEALTHY": "1"}}, "its health check did not pass 2 times in a row"),
        ({"env": {"HELLO_NEVER_LISTEN": "1"}}, "no TCP connection was accepted within boot_timeout (500 ms)"),
        ({"boot_timeout": "2s", "env": {"HELLO_LISTEN_PORT": str(free_port())}}, "connection refused: it listens on "),
    ],
    ids=["variable", "program", "unhealthy", "deaf", "port"],
)
def test_five_broken_apps_and_their_reasons(app: Hello, keys: dict[str, object], said: str) -> None:
    text = broken(app, **keys)
    assert said in text
    assert text.startswith("LEVEL")
    assert "deploy rolled back: " in text


@same_on_both
@pytest.mark.feature("H12")
def test_without_an_app_the_host_and_all_apps_are_looked_over(app: Hello) -> None:
    answer = app.server.rota("doctor", "--json")
    found = {finding["about"]: finding for finding in json.loads(answer.out)["findings"]}
    assert {app.name, "haproxy", "docker", "dns", "disk", "open files", "clock", "ports", "cgroups"} <= set(found)
    assert "released" in found["haproxy"]["said"]
    assert answer.code == int(any(finding["level"] == "problem" for finding in found.values()))


@pytest.mark.feature("H12")
def test_without_a_server_the_host_alone_is(app: Hello) -> None:
    nowhere = {"ROTA_SERVER": f"http://127.0.0.1:{free_port()}"}
    answer = app.server.rota("doctor", **nowhere)
    assert "no rota server answers" in answer.err
    assert "haproxy" in answer.out
    assert app.server.rota("doctor", app.name, **nowhere).code == 4
    refused = app.server.rota("doctor", "nosuch")
    assert (refused.code, "there is no app 'nosuch'" in refused.err) == (1, True)
