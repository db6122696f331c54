"""The main promise: every operation in every order, with 3 and 5 replicas, under load, and nothing is lost."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from tests.e2e.rounds import each_round, rounds
from tests.e2e.scenario import FULL, LIGHT, Hello, nothing_lost, same_on_both, succeeded
from tests.e2e.site import ServerAt, Site

from rota.adapters.balancer.haproxy.socket import call

pytestmark = [pytest.mark.load, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900 if FULL else 120)]

ORDERS = {
    "restart": ("start-first", "stop-first", "in-place"),
    "redeploy": ("start-first", "stop-first"),
    "deploy": ("start-first", "stop-first"),
    "limits": ("start-first", "stop-first", "in-place"),
    "rollback": ("start-first", "stop-first"),
    "scale up": ("",),
    "scale down": ("",),
}
ROUNDS = rounds(20)
WIDE_ROUNDS = rounds(3)
WIDE = {"2": 5, "50%": 6}
"""Parallelism, and with how many replicas: two at once, and three."""
SHORT = {("restart", "stop-first", "2"), ("deploy", "start-first", "50%")}  # the others: --full


@dataclass(frozen=True)
class Cell:
    operation: str
    order: str
    replicas: int
    parallelism: str = ""

    @property
    def flags(self) -> tuple[str, ...]:
        order = ("--order", self.order) if self.order else ()
        return (*order, "--parallelism", self.parallelism) if self.parallelism else order

    def __str__(self) -> str:
        words = [self.operation, self.order or "any", str(self.replicas), self.parallelism]
        return "-".join(word.replace(" ", "-") for word in words if word)


def cells() -> list[Cell]:
    """All of them, or a pairwise cover: each operation in each order once, the replicas in turn."""
    pairs = [(operation, order) for operation, orders in ORDERS.items() for order in orders]
    if FULL:
        return [Cell(operation, order, replicas) for operation, order in pairs for replicas in (3, 5)]
    return [Cell(operation, order, (3, 5)[turn % 2]) for turn, (operation, order) in enumerate(pairs)]


def wide_cells() -> list[Any]:
    """Several replicas at once, in every operation that takes slots up."""
    cells = [
        Cell(operation, order, replicas, parallelism)
        for operation, orders in ORDERS.items()
        for order in orders
        if order
        for parallelism, replicas in WIDE.items()
    ]
    return [pytest.param(cell, id=str(cell), marks=_when(cell)) for cell in cells]


def _when(cell: Cell) -> pytest.MarkDecorator:
    return same_on_both if (cell.operation, cell.order, cell.parallelism) in SHORT else pytest.mark.full


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def apps(site: Site) -> AsyncIterator[dict[int, Hello]]:
    """hello with 3 and with 5 replicas, two releases of each, so that there is one to go back to."""
    async with ServerAt(site) as server:
        found = {replicas: Hello(server, f"hello{replicas}", replicas=replicas) for replicas in (3, 5)}
        await asyncio.gather(*(app.deploy_ok() for app in found.values()))
        for app in found.values():
            succeeded(await app.deploy_new())
        yield found


@pytest.mark.feature("V2", "V6", "V8", "H4", "S1", "R1", "R2", "R11", "V9")
@pytest.mark.parametrize("cell", cells(), ids=str)
async def test_nothing_is_lost(cell: Cell, apps: dict[int, Hello]) -> None:
    await lossless(apps[cell.replicas], cell, ROUNDS)


@pytest.mark.feature("V2", "V6", "R11", "W6")
@pytest.mark.parametrize("cell", wide_cells())
async def test_nothing_is_lost_several_at_once(cell: Cell, apps: dict[int, Hello]) -> None:
    app = apps[5]
    await scale(app, cell.replicas)
    app.keys["replicas"] = cell.replicas
    await lossless(app, cell, WIDE_ROUNDS)
    await scale(app, 5)
    app.keys["replicas"] = 5


@same_on_both
@pytest.mark.feature("V2", "W6")
async def test_haproxy_never_has_fewer_than_min_available(apps: dict[int, Hello]) -> None:
    """Without the floor three of five would go at once."""
    app = apps[5]
    async with app.load(**LIGHT) as load, watched(app) as up:
        rollout = await app.order("restart", "--order", "stop-first", "--parallelism", "3", "--min-available", "4")
        report = await load.stop()
    nothing_lost(report)
    assert (rollout["receipt"]["failed"], rollout["receipt"]["gaps"]) == (0, [])
    assert set(up) == {4, 5}


@asynccontextmanager
async def watched(app: Hello) -> AsyncIterator[list[int]]:
    """How many of the app's servers HAProxy has in rotation, look by look."""
    up: list[int] = []

    async def watch() -> None:
        while True:
            rows = await call(app.server.directory / "state/haproxy/stats.sock", "show stat -1 4 -1")
            up.append(sum(serving(row) for row in csv.DictReader(rows.removeprefix("# ").splitlines())))
            await asyncio.sleep(0.005)

    def serving(row: dict[str, str]) -> bool:
        return row["svname"].startswith(f"{app.name}-") and row["status"].startswith("UP")

    watching = asyncio.create_task(watch())
    try:
        yield up
    finally:
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching


@pytest.mark.full  # in the short form test_strategies switches there and back
@pytest.mark.feature("S6", "V6", "R11")
@pytest.mark.parametrize("operation", ["deploy", "restart", "redeploy", "limits", "rollback", "scale up", "scale down"])
async def test_nothing_is_lost_in_blue_green(operation: str, apps: dict[int, Hello]) -> None:
    app = apps[3]
    if "deployment_strategy" not in app.keys:
        await app.deploy_ok(deployment_strategy="blue-green", keep_old=0)
        assert (await app.deploy_new()).code == 0
    await lossless(app, Cell(operation, "", 3), WIDE_ROUNDS, "blue-green-")


async def lossless(app: Hello, cell: Cell, wanted: int, kind: str = "") -> None:
    async def attempt(turn: int) -> None:
        async with app.load() as load:
            receipts = [rollout["receipt"] for rollout in await operate(app, cell, turn)]
            report = await load.stop()
        await app.settled(cell.replicas)
        nothing_lost(report)  # an invalid load has the round made again, from where all are there
        for receipt in receipts:
            assert receipt["failed"] == 0
            assert receipt["complete"]
            assert receipt["gaps"] == []
            assert receipt["requests"] > 0

    await each_round(f"{app.server.site.name}:{kind}{cell}", wanted, attempt)


async def operate(app: Hello, cell: Cell, turn: int) -> list[dict]:
    """The cell's operation; scaling goes there and back, and the way in question is made under load as well."""
    flags = cell.flags
    match cell.operation:
        case "deploy":
            app.version += 1
            return [await app.deploy_ok(*flags)]
        case "rollback":
            releases = (await app.server.get(f"/api/v1/apps/{app.name}/releases"))["releases"]
            other = next(release["number"] for release in releases if not release["current"])
            return [await app.order("rollback", str(other), *flags)]
        case "limits":
            memory = f"{256 + 64 * (turn % 2) + (32 if cell.order == 'stop-first' else 0)}MiB"
            return [await app.order("limits", "--memory", memory, *flags)]
        case "scale up":
            return [await scale(app, cell.replicas + 2), await scale(app, cell.replicas)]
        case "scale down":
            return [await scale(app, cell.replicas - 2), await scale(app, cell.replicas)]
        case operation:
            return [await app.order(operation, *flags)]


async def scale(app: Hello, replicas: int) -> dict:
    answer = await app.server.cli("scale", f"{app.name}={replicas}", "--json")
    assert answer.code == 0, f"{answer.out}\n{answer.err}"
    rollout = answer.json
    assert rollout["phase"] == "succeeded", rollout
    return rollout
