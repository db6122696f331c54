"""A start that finds what an engine could not remove of an earlier try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web
from tests.adapters.docker.served import client, serving

from rota.adapters.clock import SystemClock
from rota.adapters.inturn import InTurn
from rota.adapters.runtime.docker.images import Images
from rota.adapters.runtime.docker.labels import Labels
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.network import OwnNetwork
from rota.adapters.runtime.docker.pins import Pins
from rota.adapters.runtime.docker.reruns import Reruns
from rota.adapters.runtime.docker.starts import Starts
from rota.adapters.runtime.docker.table import Table
from rota.core.names import ReplicaId
from rota.ports.runtime import StartOrder
from rota.testing.dock import box_spec
from rota.testing.machine import start_order

ADDRESS = "10.0.0.2"


class Network(OwnNetwork):
    """One that is there."""

    resolvers = ("10.0.0.1",)  # type: ignore[assignment]

    async def lease(self, replica: ReplicaId) -> str:
        return ADDRESS


class Occupied:
    """An engine whose one container has the replica's name and was only created; its files are mounted somewhere, so
    that it cannot be removed."""

    def __init__(self, names: Names, order: StartOrder) -> None:
        self.names = {"left": names.container(order.replica)}
        self._labels = Labels.of(order, ADDRESS).written(names.server_id)
        self._state = {"Status": "created", "Running": False, "Dead": False, "Pid": 0}

    async def answer(self, request: web.Request) -> web.Response:
        match request.method, request.path.split("/")[2:]:
            case "POST", ["containers", "create"] if request.query["name"] in self.names.values():
                return _refused(409, f"Conflict. The container name {request.query['name']} is already in use")
            case "POST", ["containers", "create"]:
                self.names["new"] = request.query["name"]
                return web.json_response({"Id": "new"}, status=201)
            case "GET", ["containers", _, "json"]:
                config = {"Labels": self._labels, "Env": []}
                seen: dict[str, Any] = {"Id": "left", "Name": f"/{self.names['left']}", "Config": config}
                return web.json_response({**seen, "State": self._state})
            case "DELETE", ["containers", "left"]:
                self._state |= {"Status": "dead", "Dead": True}
                return _refused(500, "unlinkat /x/merged: device or resource busy")
            case "POST", ["containers", "left", "rename"]:
                self.names["left"] = request.query["name"]
                return web.Response(status=204)
            case _:
                return web.json_response({"ApiVersion": "1.41"})


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)


async def test_a_start_goes_on_past_what_the_engine_cannot_remove_of_an_earlier_try(tmp_path: Path) -> None:
    """The engine was stopped in the middle of it (seen with Docker 20.10). It is nobody's any more, and has the name
    all the same."""
    names, order = Names("0" * 32), start_order(1, box_spec())
    engine = Occupied(names, order)
    async with serving(engine.answer) as host, client(host) as asked:
        reruns, pins = Reruns(tmp_path / "r.json", InTurn("r")), Pins(tmp_path / "i.json", InTurn("i"))
        table = Table(asked, names, SystemClock(tmp_path), reruns, lambda app: None, lambda replica: None)
        network = Network(asked, names, tmp_path / "a.json", lambda: 0.0)
        starts = Starts(asked, names, network, Images(asked, names, pins, lambda app: None), table)
        assert await starts._create(order, {"Id": "sha256:0", "Config": {"Cmd": ["sleep"]}}) == "new"
        await table.close()
    assert engine.names["new"] == names.container(order.replica)
