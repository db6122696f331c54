"""How much longer a rollout takes when the daemon is killed in it, and how soon the next one is in charge.

    python bench/killed_rollout.py [--runtime docker] [--rounds 1] [--json]

Every step of the engine in the scenario that makes it in tests/e2e/test_faults.py: let through, and with the daemon
ended by SIGKILL right after that step is on record and started again at once. Limits: 10 s longer than one that was not
killed, in charge again within 2 s."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from figures import moment
from tests.e2e import test_faults
from tests.e2e.scenario import HELLO, LIGHT, Hello
from tests.e2e.site import Containers, Processes, ServerAt, Site

from rota.testing.docker import docker_engine
from rota.testing.faults import VARIABLE
from rota.testing.server import ServerBroken, free_port

LATER, IN_CHARGE = 10.0, 2.0  # seconds
SCENARIOS = {**test_faults.LOSSLESS, **test_faults.LOSSY}
ONLY_KILLED = test_faults.fall_ill_together  # waits for the daemon to die of it
PHASES: dict[test_faults.Scenario, str] = {test_faults.pause: "paused"}


@dataclass
class Taken:
    """Seconds, one a round. ``plain`` and ``killed``: from a rollout's beginning to its end; none where the scenario
    begins no rollout. ``in_charge``: from the start of the next daemon until it is ready."""

    plain: list[float] = field(default_factory=list)
    killed: list[float] = field(default_factory=list)
    in_charge: list[float] = field(default_factory=list)

    @property
    def later(self) -> list[float]:
        return [killed - plain for killed, plain in zip(self.killed, self.plain, strict=True)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runtime", choices=("process", "docker"), default="process")
    parser.add_argument("--rounds", type=int, default=1, help="kills at each step, and rollouts without one")
    parser.add_argument("--steps", nargs="*", default=list(SCENARIOS), metavar="STEP")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    results = asyncio.run(_measure(given.runtime, given.rounds, given.steps))
    print(json.dumps({step: asdict(taken) for step, taken in results.items()}) if given.json else _report(results))
    return 0


async def _measure(runtime: str, rounds: int, steps: list[str]) -> dict[str, Taken]:
    results = {step: Taken() for step in steps}
    async with _site(runtime) as site, ServerAt(site, "--dns", f"127.0.0.1:{free_port()}") as server:
        for turn in range(rounds):
            for step, taken in results.items():
                await _one(server, step, f"{step.lower()}-{turn}", taken)
                print(".", end="", file=sys.stderr, flush=True)
    return results


@asynccontextmanager
async def _site(runtime: str) -> AsyncIterator[Site]:
    if runtime == "process":
        yield Processes()
        return
    with docker_engine() as engine:
        engine.import_hello(HELLO)
        yield Containers(engine)


async def _one(server: ServerAt, step: str, name: str, taken: Taken) -> None:
    """Beside a light load: some steps come of requests."""
    scenario = SCENARIOS[step]
    if scenario is not ONLY_KILLED:
        app = await _deployed(server, step, f"{name}-plain")
        before = await _newest(app)
        async with app.load(**LIGHT), _held_open(app, scenario):
            await _played(app, scenario, taken.plain, before, asyncio.create_task(scenario(app)))
    app = await _deployed(server, step, name)
    before = await _newest(app)
    await server.kill()
    if arrange := test_faults.ARRANGED.get(step):
        arrange(app)
    async with app.load(**LIGHT), _held_open(app, scenario):
        with suppress(ServerBroken):  # it may die before it is ready
            await server.start(**{VARIABLE: f"recorded:{step}"})
        work = asyncio.create_task(scenario(app))
        if await server.ended() != -9:
            raise RuntimeError(f"{step} was not reached\n{server.log[-3000:]}")
        taken.in_charge.append(await server.start())
        await _played(app, scenario, taken.killed, before, work)


async def _deployed(server: ServerAt, step: str, name: str) -> Hello:
    """As the tests have it for this step."""
    lossy: dict[str, Any] = {"drain": {"timeout": 0.5}, "stop_grace_period": 1, **test_faults.ILL_SOON}
    lossless: dict[str, Any] = {"sticky": True, "drain": {"session_timeout": 0}, "repair": {"unhealthy_grace": 0.1}}
    app = Hello(server, name, replicas=2, **(lossy if step in test_faults.LOSSY else lossless))
    await app.deploy_ok()
    return app


async def _played(
    app: Hello, scenario: test_faults.Scenario, taken: list[float], before: str, work: asyncio.Task[None]
) -> None:
    """The scenario to its end, after which the app is gone; what its last rollout took is noted, if it began one."""
    await work
    rollout = await app.rollout_ended(60.0, phase=PHASES.get(scenario))
    if rollout["id"] != before:
        ended = rollout["finished_at"] or rollout["steps"][-1]["at"]
        taken.append(moment(ended) - moment(rollout["started_at"]))
    if scenario is test_faults.remove:
        await app.server.until(lambda: test_faults.forgotten(app))
    else:
        await app.server.ok("remove", app.name, "--yes", "--supersede")


@asynccontextmanager
async def _held_open(app: Hello, scenario: test_faults.Scenario) -> AsyncIterator[None]:
    """With the request that is to be cut, where one is."""
    holding = asyncio.create_task(test_faults.hold_open(app)) if scenario is test_faults.cut else None
    yield
    if holding is not None:
        holding.cancel()


async def _newest(app: Hello) -> str:
    return str((await app.server.get(f"/api/v1/rollouts?app={app.name}&limit=1"))["rollouts"][0]["id"])


def _report(results: dict[str, Taken]) -> str:
    lines = [f"{'killed at':20} {'not killed':>10} {'later':>8} {'in charge':>10}   seconds, medians"]
    for step, taken in results.items():
        plain, later = (
            (f"{statistics.median(taken.plain):.2f}", f"{statistics.median(taken.later):+.2f}")
            if taken.plain
            else ("no rollout", "")
        )
        lines.append(f"{step:20} {plain:>10} {later:>8} {statistics.median(taken.in_charge):10.2f}")
    latest = max((one for taken in results.values() for one in taken.later), default=0.0)
    slowest = max(one for taken in results.values() for one in taken.in_charge)
    lines.append(f"latest {latest:+.2f} s   {'within' if latest <= LATER else 'OVER'} {LATER:g} s")
    lines.append(
        f"in charge after at most {slowest:.2f} s   {'within' if slowest <= IN_CHARGE else 'OVER'} {IN_CHARGE:g} s"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
