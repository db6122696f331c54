"""What a container is created with, where no engine needs to be asked."""

from __future__ import annotations

from typing import Any

import pytest

from rota.adapters.runtime.docker.creation import creation
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.names import Names
from rota.testing.dock import box_spec
from rota.testing.machine import start_order


def init_of(config: dict[str, Any] | None, *command: str, **container: Any) -> bool:
    app = box_spec(*command, container=container) if command else box_spec(command=[], container=container)
    order = start_order(1, app)
    labels = Labels.of(order, "10.0.0.2")
    body = creation(order, labels, {"Id": "sha256:0", "Config": config}, Names("0" * 32))
    return bool(body["HostConfig"]["Init"])


@pytest.mark.parametrize(
    "config",
    [
        {"Entrypoint": ["/usr/bin/tini", "--"], "Cmd": ["serve"]},
        {"Entrypoint": ["/sbin/docker-init", "--", "serve"]},
        {"Entrypoint": ["dumb-init"], "Cmd": ["serve"]},
        {"Entrypoint": ["/init"], "Cmd": None},
        {"Entrypoint": None, "Cmd": ["/lib/systemd/systemd"]},
        {"Cmd": ["/sbin/init"]},
    ],
)
def test_an_image_with_an_init_gets_no_second_one(config: dict[str, Any]) -> None:
    assert not init_of(config)
    assert init_of(config, init=True)


@pytest.mark.parametrize("config", [{"Entrypoint": ["python3"], "Cmd": ["/init"]}, {"Cmd": ["sh"]}, {}, None])
def test_an_image_without_an_init_gets_one(config: dict[str, Any] | None) -> None:
    assert init_of(config)
    assert not init_of(config, init=False)


def test_a_command_takes_the_place_of_the_images_own_but_not_of_its_entrypoint() -> None:
    assert init_of({"Cmd": ["/init"]}, "serve")
    assert not init_of({"Entrypoint": ["/init"], "Cmd": ["x"]}, "serve")
    assert not init_of({"Cmd": ["x"]}, "tini", "--", "serve")


def test_a_container_has_the_ports_that_the_file_names_as_they_are() -> None:
    app = box_spec("serve", "$PORT", "${PORT_22}", "$PORT_1", ports=[{"listen": 5432}, {"listen": 2222, "port": 22}])
    labels = Labels.of(start_order(1, app), "10.0.0.2")
    body = creation(start_order(1, app), labels, {"Id": "sha256:0", "Config": {}}, Names("0" * 32))
    assert body["Cmd"] == ["serve", "5432", "22", "$PORT_1"]
    assert {"PORT=5432", "PORT_22=22", "PORT_5432=5432"} <= set(body["Env"])
    assert set(body["ExposedPorts"]) == {"5432/tcp", "22/tcp"}
    assert Labels.read({"Labels": body["Labels"], "Env": body["Env"]}) == labels
