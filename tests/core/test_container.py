"""Images, volumes and what a runtime can run, as the file says them."""

from __future__ import annotations

import pytest

from rota.core.container import Container, Image, PullPolicy, Registry, Volume
from rota.core.errors import SpecError
from rota.core.fitness import RuntimeKind, misfits
from rota.core.spec import AppSpec
from rota.core.specfile import parse

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("written", "reference"),
    [
        ("nginx", "nginx:latest"),
        ("nginx:1.27", "nginx:1.27"),
        ("ghcr.io/me/app:v1", "ghcr.io/me/app:v1"),
        ("127.0.0.1:5000/me/app", "127.0.0.1:5000/me/app:latest"),
        (f"me/app@{DIGEST}", f"me/app@{DIGEST}"),
        (f"me/app:1@{DIGEST}", f"me/app@{DIGEST}"),
        ("{repository: me/app, tag: 1.10}", "me/app:1.10"),
    ],
)
def test_an_image_is_one_text_or_its_parts(written: str, reference: str) -> None:
    spec = parse(f"name: a\nimage: {written}\n")
    assert spec.image is not None
    assert spec.image.reference == reference
    assert AppSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("written", ["Nginx", "a//b", "a:b c", "a@sha256:12", "-a", '""', "x" * 600])
def test_what_is_no_image_is_refused(written: str) -> None:
    with pytest.raises(SpecError, match=r"rota.yaml:2:8: image: an image is expected"):
        parse(f"name: a\nimage: {written}\n")


def test_a_registry_takes_credentials() -> None:
    spec = parse("name: a\nimage: {repository: b, pull: always, registry: {server: r.org, username: u, password: 123}}")
    assert spec.image == Image(
        repository="b", pull=PullPolicy.ALWAYS, registry=Registry(server="r.org", username="u", password="123")
    )


@pytest.mark.parametrize(
    ("written", "volume"),
    [
        ("uploads:/var/uploads", Volume(source="uploads", target="/var/uploads")),
        ("/srv/x:/x:ro", Volume(source="/srv/x", target="/x", read_only=True)),
        ("/srv/x:/x:rw", Volume(source="/srv/x", target="/x")),
        ("{source: a, target: /b, read_only: true}", Volume(source="a", target="/b", read_only=True)),
    ],
)
def test_a_volume_is_one_text_or_its_parts(written: str, volume: Volume) -> None:
    assert parse(f"name: a\nimage: b\nvolumes:\n- {written}\n").volumes == (volume,)


@pytest.mark.parametrize("written", ["a", "a:", ":/b", "a:b", "a:/b:x", "/a/../b:/c", "-a:/b", "a:/b/../c"])
def test_what_is_no_volume_is_refused(written: str) -> None:
    with pytest.raises(SpecError, match=r"rota.yaml:3:11"):
        parse(f"name: a\nimage: b\nvolumes: ['{written}']")


def test_a_build_command_needs_a_directory() -> None:
    with pytest.raises(SpecError, match=r"rota.yaml:3:16: build_command: it builds an uploaded directory"):
        parse("name: a\nimage: b\nbuild_command: [make]")


@pytest.mark.parametrize(
    ("keys", "runtime", "found"),
    [
        ({"command": ["x"]}, RuntimeKind.PROCESS, set()),
        ({"image": "b"}, RuntimeKind.PROCESS, {"image"}),
        ({"image": "b", "command": ["x"]}, RuntimeKind.PROCESS, {"image"}),
        (
            {"command": ["x"], "volumes": ["a:/b"], "network": "n", "container": {"init": False}},
            RuntimeKind.PROCESS,
            {"volumes", "network", "container"},
        ),
        ({"image": "b", "container": {"pids": 9}}, RuntimeKind.DOCKER, set()),
        ({"command": ["x"]}, RuntimeKind.DOCKER, {"command"}),
    ],
)
def test_what_a_runtime_cannot_run_is_named(keys: dict[str, object], runtime: RuntimeKind, found: set[str]) -> None:
    assert set(misfits(AppSpec.model_validate({"name": "a", **keys}), runtime)) == found


def test_a_misfit_is_reported_at_its_key_or_for_the_whole_file() -> None:
    with pytest.raises(SpecError, match=r"rota.yaml:3:1: volumes is for containers"):
        parse("name: a\ncommand: [b]\nvolumes: ['c:/d']", runtime=RuntimeKind.PROCESS)
    with pytest.raises(SpecError, match=r"rota.yaml:2:1: this server runs containers"):
        parse("name: a\ncommand: [b]", runtime=RuntimeKind.DOCKER)
    assert parse("name: a\nimage: b", runtime=RuntimeKind.DOCKER).container == Container()
