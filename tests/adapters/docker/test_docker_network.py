"""The own network of a docker runtime when somebody has removed it, or taken its name or its subnet meanwhile."""

from __future__ import annotations

import asyncio
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.adapters.docker.served import client, serving

from rota.adapters.runtime.docker import runtime
from rota.adapters.runtime.docker.client import EngineLost
from rota.adapters.runtime.docker.names import Names
from rota.adapters.runtime.docker.network import OwnNetwork
from rota.core.errors import StartFailed, StepFailed
from rota.testing.dock import Dock, box_spec
from rota.testing.machine import start_order, until


def own(box: Dock) -> str:
    return f"rota-{box.server_id[:8]}"


def held(data_dir: Path) -> set[str]:
    """Who has an address that is not given back."""
    leases = json.loads((data_dir / "addresses.json").read_text())
    return {lease["replica"] for lease in leases.values() if lease["until"] is None}


async def taken(box: Dock) -> str:
    """The subnet that was the own network's, and is another's now."""
    subnet = box.runtime._network.subnet
    await box.engine.cli("network", "rm", own(box))
    await box.engine.cli("network", "create", "--subnet", subnet, "theirs")
    return subnet


async def test_a_subnet_that_somebody_took_is_left_to_them_by_all_starts_at_once(box: Dock) -> None:
    """As ``docker system prune`` and another program's network leave it, with all apps stopped."""
    app = box_spec()
    await box.prepared(app)
    subnet = await taken(box)
    await asyncio.gather(*(box.runtime.start(start_order(number, app)) for number in range(1, 6)))
    seen = (await box.runtime.observe())[0].values()
    addresses = {one.address.host for one in seen if one.address is not None}
    assert len(addresses) == 5
    assert all(ipaddress.ip_address(one) not in ipaddress.ip_network(subnet) for one in addresses)
    assert own(box) in await box.engine.cli("network", "ls", "--format", "{{.Name}}")


async def test_a_subnet_in_which_somebody_still_lives_is_asked_back(box: Dock) -> None:
    app = box_spec()
    await box.started(app)
    await box.engine.cli("network", "disconnect", "-f", own(box), box.name("web-1"))
    subnet = await taken(box)
    with pytest.raises(StepFailed) as refused:
        await box.runtime.start(start_order(2, app))
    assert refused.value.message == (
        f"the network {own(box)} cannot be made again: the network theirs has taken its subnet {subnet}; remove that "
        "one (docker network rm theirs), or stop this server's apps and start them again"
    )
    await box.engine.cli("network", "rm", "theirs")
    await box.runtime.start(start_order(2, app))


async def test_a_subnet_is_asked_back_while_the_name_server_stands_in_it(box: Dock) -> None:
    app = box_spec()
    await box.prepared(app)
    box.runtime._network.resolvers = (box.runtime._network.gateway,)
    await taken(box)
    with pytest.raises(StepFailed, match=r"\(docker network rm theirs\), or start rota serve again$"):
        await box.runtime.start(start_order(1, app))
    assert not held(box.data_dir)


async def test_a_network_of_the_name_that_is_not_this_servers_is_left_alone(box: Dock) -> None:
    await box.close()
    await box.engine.cli("network", "rm", own(box))
    theirs = await box.engine.cli("network", "create", own(box))
    with pytest.raises(StepFailed, match=f"there is a network {own(box)} that is not this server's; remove it or"):
        await box.open()
    assert await box.engine.cli("network", "inspect", "-f", "{{.Id}}", own(box)) == theirs
    await box.engine.cli("network", "rm", theirs)
    await box.open()


@pytest.mark.parametrize(
    "refusal",
    [
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network",
        "all predefined address pools have been fully subnetted",
    ],
)
async def test_an_engine_without_a_free_subnet_is_told_with_the_way_out(tmp_path: Path, refusal: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/version"):
            return web.json_response({"ApiVersion": "1.41"})
        if request.path.endswith("/networks"):
            return web.json_response([])
        said = json.dumps({"message": refusal}).encode()
        return web.Response(body=said, status=404, content_type="application/json")

    async with serving(answer) as host, client(host) as asked:
        network = OwnNetwork(asked, Names("0" * 32), tmp_path / "a.json", lambda: 0.0)
        with pytest.raises(StepFailed) as refused:
            await network.ensure()
    assert refused.value.message == (
        f"the network rota-00000000 cannot be made: {refusal}; "
        "docker network prune frees the subnets of those that nobody uses"
    )


async def test_a_network_that_is_gone_at_a_restart_in_place_is_told_with_the_way_out(box: Dock) -> None:
    """The container knows it by its id, and would not find one of the same name."""
    app = box_spec()
    seen = await box.started(app)
    await box.runtime.kill(seen.id)

    async def ended() -> bool:
        now = await box.replica()
        return now is not None and now.exit is not None

    await until(ended)
    await box.engine.cli("network", "rm", own(box))
    with pytest.raises(StartFailed) as refused:
        await box.runtime.restart(start_order(1, app))
    assert refused.value.message == (
        "web-1 cannot be started again in place: a network that its container was in has been removed; restart without "
        "--order in-place, for new containers"
    )
    await box.runtime.start(start_order(2, app))


async def test_a_start_that_is_given_up_for_a_lost_engine_keeps_no_address(
    box: Dock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it does: what was asked for may have been done."""
    app, post, kept = box_spec(), box.runtime._client.post, list[set[str]]()
    await box.prepared(app)

    async def lost(path: str, *words: Any, **named: Any) -> Any:
        if not path.startswith("containers/"):
            return await post(path, *words, **named)
        kept.append(held(box.data_dir))
        raise EngineLost("the engine was lost")

    monkeypatch.setattr(box.runtime._client, "post", lost)
    monkeypatch.setattr(runtime, "PATIENCE", 0.1)
    monkeypatch.setattr(runtime, "_AGAIN", 0.0)
    with pytest.raises(EngineLost):
        await box.runtime.start(start_order(1, app))
    assert all(holders == {"web-1"} for holders in kept)
    assert not held(box.data_dir)
