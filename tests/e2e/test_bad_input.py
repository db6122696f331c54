"""Everything that a person can get wrong: one clear message, the documented exit code, and what serves goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.docker.registry import PASSWORD, USER
from tests.adapters.docker.registry import running as registry
from tests.e2e.conftest import new_hello
from tests.e2e.running import Hello, Server

from rota.testing import images
from rota.testing.server import Answer, free_port

GOOD = "name: {name}\ncommand: [python3, app.py]\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(scope="module")
def neighbour(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    """An app that is there before, and that nothing may disturb."""
    app = new_hello(server, tmp_path_factory.mktemp("neighbour") / "hello")
    yield app.deployed()
    server.ok("remove", app.name, "--yes")


@pytest.fixture(scope="module")
def victim(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hello]:
    """An app to which bad things are done."""
    app = new_hello(server, tmp_path_factory.mktemp("victim") / "hello")
    yield app.deployed()
    server.ok("remove", app.name, "--yes", "--supersede")


@pytest.fixture(autouse=True)
def _undisturbed(neighbour: Hello) -> Iterator[None]:
    before = _state(neighbour)
    yield
    assert _state(neighbour) == before
    assert neighbour.request().status == 200
    assert "Traceback" not in neighbour.server.running.log


def _state(app: Hello) -> list[Any]:
    return [(entry["id"], entry["phase"], entry["started_at"], entry["restarts"]) for entry in app.replicas]


def refused(answer: Answer, code: int, *words: str) -> str:
    """The message of a refusal, which is all that it prints."""
    assert answer.code == code, answer
    assert answer.out == "", answer
    assert "Traceback" not in answer.err
    for word in words:
        assert word in answer.err, answer.err
    return answer.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "replicsa: 3\n", 'rota.yaml:3:1: unknown key "replicsa"; did you mean "replicas"?'),
        (GOOD + "replicas: many\n", 'rota.yaml:3:11: replicas: a whole number is expected, not "many"'),
        (GOOD + "replicas: 0\n", "rota.yaml:3:11: replicas: at least 1 is expected, not 0"),
        (GOOD + "replicas: 2\nreplicas: 3\n", "rota.yaml:4:1: "),
        (GOOD + "drain:\n\ttimeout: 3\n", "rota.yaml:4:1: "),
        (GOOD + BOMB, "rota.yaml:"),
        ("", "rota.yaml:1:1: the file is empty; rota init writes one to start from"),
        ("- name: x\n", "rota.yaml:1:1: "),
        (GOOD + "rollout: {{delay: 301}}\n", "rota.yaml:3:18: rollout.delay: a delay is 0 to 300 seconds, not 301"),
        (
            GOOD + "rollout: {{parallelism: 0}}\n",
            "rota.yaml:3:24: rollout.parallelism: 1 to 1000 replicas or 1% to 100% of",
        ),
        (GOOD + "rollout: {{parallelism: 101%}}\n", "rota.yaml:3:24: rollout.parallelism: 1 to 1000 replicas or 1% to"),
        (
            GOOD + "rollout: {{failure_action: explode}}\n",
            'rota.yaml:3:27: rollout.failure_action: rollback, pause or continue is expected, not "explode"',
        ),
        (
            GOOD + "deployment_strategy: blue-green\nrollout: {{order: stop-first}}\n",
            "rota.yaml:4:18: rollout.order: stop-first contradicts deployment_strategy: blue-green, which starts",
        ),
        (GOOD + "min_ready_seconds: 601\n", "rota.yaml:3:20: min_ready_seconds: 0 to 600 seconds are allowed, not 601"),
        (GOOD + "health_check: {{interval: 0}}\n", "rota.yaml:3:26: health_check.interval: 0.1 to 3600 seconds are"),
        ('name: "a\\nb"\ncommand: [x]\n', "rota.yaml:1:7: name: "),
        (GOOD + 'domains: [{{domain: "a\\nb"}}]\n', "rota.yaml:3:20: domains.domain: 'a\\nb' is not a domain name"),
        (GOOD + "image: Nginx:\n", "rota.yaml:3:"),
        ("name: {name}\n", 'rota.yaml:1:1: the key "command" is missing'),
        (GOOD + "a: [\n", "rota.yaml:4:1: "),
    ],
    ids=lambda value: re.sub(r"\W+", " ", value)[-30:].strip() if "rota.yaml" not in value else "",
)
def test_a_wrong_file_is_named_with_its_place(hello: Hello, text: str, message: str) -> None:
    hello.file.write_text(text.replace("{name}", hello.name).replace("{{", "{").replace("}}", "}"))
    said = refused(hello.deploy(), 3, message)
    assert len(said.splitlines()) <= 2
    assert len(said) < 1000


def test_a_file_of_ten_megabytes_is_refused_at_once(hello: Hello) -> None:
    hello.file.write_text(GOOD.format(name=hello.name) + "# long\n" * (10 * 2**20 // 7))
    assert len(refused(hello.deploy(), 3, "rota.yaml")) < 300


def test_validate_says_the_same_and_needs_no_server(hello: Hello) -> None:
    hello.file.write_text("name: x\nreplicsa: 3\n")
    answer = hello.server.rota("validate", cwd=hello.directory, ROTA_SERVER="http://127.0.0.1:1")
    assert len(refused(answer, 3, 'unknown key "replicsa"', 'the key "command" is missing').splitlines()) == 2


def test_without_a_file_the_way_to_one_is_told(hello: Hello) -> None:
    hello.file.unlink()
    refused(hello.deploy(), 3, "rota.yaml: there is no such file; write one with: rota init")


def test_a_domain_of_another_app_is_refused(hello: Hello, neighbour: Hello) -> None:
    hello.write(domains=[{"domain": neighbour.host}])
    for answer in (hello.deploy(), hello.server.rota("plan", "-f", hello.file)):
        told = refused(answer, 3, neighbour.host, f"belongs to the app '{neighbour.name}'")
        assert re.search(r"rota\.yaml:\d+:\d+: the domain ", told)
    assert hello.name not in {app["name"] for app in hello.server.api("apps")["apps"]}


@pytest.mark.runtime("process")
def test_a_source_over_the_limit_is_refused_before_it_is_packed(hello: Hello) -> None:
    with (hello.directory / "video.bin").open("wb") as file:
        file.truncate(300 * 2**20)
    refused(hello.deploy(), 3, "the source is 300", "256.0 MiB is the most", "video.bin (300.0 MiB)", ".dockerignore")


@pytest.mark.feature("V4")
def test_a_delay_over_300_seconds_is_refused_with_the_reason(neighbour: Hello) -> None:
    answer = neighbour.server.rota("restart", neighbour.name, "--delay", "301")
    refused(answer, 2, "a delay is 0 to 300 seconds, not 301", "min_ready_seconds")
    refused(neighbour.deploy("--delay", "301"), 2, "a delay is 0 to 300 seconds, not 301")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("ps nosuch", 1, "there is no app 'nosuch'; rota ls lists them"),
        ("restart nosuch", 1, "there is no app 'nosuch'"),
        ("remove nosuch --yes", 1, "there is no app 'nosuch'"),
        ("logs nosuch", 1, "there is no app 'nosuch'"),
        ("logs APP --replica nosuch", 1, "has no replica 'nosuch'"),
        ("rollout show nosuch.7", 1, "there is no rollout 'nosuch.7'; rota rollout ls lists them"),
        ("rollout pause APP", 1, "no rollout of APP is under way"),
        ("rollback APP", 1, "APP has no release before 1 to go back to"),
        ("rollback APP 7", 1, "APP has no release 7; kept are 1"),
        ("start APP", 1, "APP is not stopped"),
        ("scale APP=0", 2, "1 replica is the fewest; to have none: rota stop APP"),
        ("scale APP=2000", 2, "at most 1000 is expected, not 2000"),
        ("scale APP", 2, "'APP' is not "),
        ("limits APP", 2, "give --memory, --cpus or --cloudlets"),
        ("limits APP --cpus 0", 2, "cpus: more than 0 is expected, not 0"),
        ("limits APP --memory 3x", 2, 'memory: a size is expected, such as 512MiB or 1GB, not "3x"'),
        ("limits APP --memory 1", 2, "at least 4 MiB are needed"),
        ("limits APP --memory 512MiB --cloudlets 2", 2, "not both"),
        ("remove APP", 2, "give --yes"),
        ("restart APP --min-available 9", 2, "min_available 9 is more than the 2 replicas there are"),
        ("restart APP --parallelism 0", 2, "1 to 1000 replicas or 1% to 100% of them are expected"),
        ("restart APP --parallelism 101%", 2, "1 to 1000 replicas or 1% to 100% of them are expected"),
        ("restart APP --failure-action explode", 2, "'rollback', 'pause', 'continue'"),
        ("restart APP --sequential --simultaneous", 2, "contradict each other"),
        ("restart APP --order sideways", 2, "'start-first', 'stop-first', 'in-place'"),
        ("restart APP --nosuch", 2, "No such option: --nosuch"),
        ("nosuch", 2, "No such command 'nosuch'"),
        ("restart", 2, "Missing argument"),
    ],
)
def test_a_wrong_order_changes_nothing(neighbour: Hello, words: str, code: int, said: str) -> None:
    command = [word.replace("APP", neighbour.name) for word in words.split()]
    message = refused(neighbour.server.rota(*command), code)
    assert said.replace("APP", neighbour.name) in message, message
    assert "Value error" not in message


def test_in_place_is_refused_for_a_new_release(neighbour: Hello) -> None:
    refused(neighbour.deploy("--order", "in-place"), 2, "in-place is for restarts and limits", "start-first")


@pytest.mark.parametrize("order", ["stop-first", "in-place"])
def test_one_replica_cannot_stop_first(victim: Hello, order: str) -> None:
    victim.server.ok("scale", f"{victim.name}=1")
    answer = victim.server.rota("restart", victim.name, "--order", order)
    refused(answer, 2, "start-first", "--simultaneous")
    assert victim.request().status == 200


def test_a_second_rollout_names_the_one_that_runs(victim: Hello) -> None:
    victim.server.ok("scale", f"{victim.name}=2")
    running = victim.server.ok("restart", victim.name, "--delay", "60s", "--detach").out.strip()
    refused(victim.server.rota("restart", victim.name), 1, f"{running} (restart) is under way", "--supersede")
    victim.server.ok("rollout", "abort", running)
    assert victim.server.rota("rollout", "watch", running).code == 1


def test_a_command_that_is_not_there(victim: Hello) -> None:
    serving = _serving(victim)
    victim.write(command=["nosuch", "x"])
    _rolled_back(victim, "cannot start 'nosuch': no such program in PATH", serving)


@pytest.mark.runtime("process")
def test_a_build_that_fails_shows_its_last_lines(victim: Hello) -> None:
    serving = _serving(victim)
    victim.write(build_command=["sh", "-c", "echo step one; echo wheel is broken >&2; exit 3"])
    answer = victim.deploy()
    assert answer.code == 5, answer
    assert "ended with exit code 3" in answer.out
    assert "  | step one\n  | wheel is broken\n" in answer.out
    assert (_serving(victim), victim.request().status) == (serving, 200)


@pytest.mark.runtime("docker")
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            {"image": {"repository": "test/none", "pull": "never"}},
            "the image test/none:latest is not on this engine, and pull: never asks no registry; docker load it",
        ),
        ({"image": "127.0.0.1:1/app:2"}, "the image 127.0.0.1:1/app:2 cannot be pulled: "),
        ({"network": "nowhere"}, "there is no network 'nowhere' on this engine; docker network create nowhere"),
        ({"volumes": ["/not/there:/x"]}, "the volume /not/there is not there on the engine's machine; create it"),
    ],
    ids=["no such image", "no registry", "no network", "no volume"],
)
def test_what_cannot_be_a_container_leaves_the_old_ones_serving(victim: Hello, keys: dict[str, Any], said: str) -> None:
    serving = _serving(victim)
    victim.write(**keys)
    _rolled_back(victim, said, serving)


@pytest.mark.runtime("docker")
def test_an_image_for_another_platform_leaves_the_old_ones_serving(victim: Hello) -> None:
    serving = _serving(victim)
    with registry() as other:
        other.put("1", images.busybox(), "hello", architecture="s390x")
        account = {"server": other.address, "username": USER, "password": PASSWORD}
        victim.write(image={"repository": f"{other.address}/app", "tag": "1", "registry": account})
        _rolled_back(victim, f"the image {other.address}/app:1 is for linux/s390x, this engine runs linux/", serving)


def _serving(victim: Hello) -> list[str]:
    """One that failed is shown beside them for a moment."""
    return [replica["id"] for replica in victim.replicas if replica["phase"] == "ready"]


def _rolled_back(victim: Hello, said: str, serving: list[str]) -> None:
    answer = victim.deploy()
    assert answer.code == 5, answer
    assert said in answer.out
    assert "release 1 serves" in answer.out
    assert (_serving(victim), victim.request().status) == (serving, 200)


def test_a_wrong_token_is_refused(neighbour: Hello) -> None:
    refused(neighbour.server.rota("ls", ROTA_TOKEN="wrong"), 4, "does not accept the token of ROTA_TOKEN")


def test_without_a_token_the_places_are_named(neighbour: Hello, tmp_path: Path) -> None:
    answer = neighbour.server.rota("ls", ROTA_DATA_DIR=str(tmp_path))
    refused(answer, 4, f"{tmp_path}/admin.token cannot be read", "ROTA_TOKEN")


@pytest.mark.parametrize(
    "words", ["ls", "ps", "status", "deploy", "restart hello", "shutdown", "events -f", "rollout ls"]
)
def test_without_a_server_the_way_to_one_is_told(neighbour: Hello, words: str) -> None:
    port = free_port()
    answer = neighbour.server.rota(*words.split(), cwd=neighbour.directory, ROTA_SERVER=f"http://127.0.0.1:{port}")
    refused(answer, 4, f"no rota server answers at http://127.0.0.1:{port}; start one with: rota serve")


def test_an_address_that_is_none(neighbour: Hello) -> None:
    refused(
        neighbour.server.rota("ls", ROTA_SERVER="foo"), 2, "ROTA_SERVER is 'foo'; write it as http://127.0.0.1:7700"
    )


def test_refusals_keep_their_code_and_their_channel_with_json(neighbour: Hello) -> None:
    refused(neighbour.server.rota("ps", "nosuch", "--json"), 1, "there is no app 'nosuch'")
    listed = json.loads(neighbour.server.ok("rollout", "ls", "--json").out)["rollouts"]
    assert all(entry["id"] != "nosuch.1" for entry in listed)
