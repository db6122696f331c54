"""What the scenarios of tests/core share: an app that runs, and words for what was done to it."""

from __future__ import annotations

from typing import Any

from rota.core import order as o
from rota.core.observation import RunState
from rota.core.rollout import Phase
from rota.core.spec import RolloutOptions
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, check_settled, mood_of, spec_of
from rota.testing.simulation_rules import DesignRules


def empty() -> Simulation:
    """Nothing runs; replicas behave as the MOOD in their environment says."""
    simulation = Simulation(rules=DesignRules())
    simulation.runtime.faults = lambda order: MOODS[mood_of(order.spec)]
    return simulation


def deployed(replicas: int = 3, **fields: Any) -> Simulation:
    """An app that works, its first rollout over for a minute; of ``steps`` only what comes after it is kept."""
    simulation = empty()
    simulation.order(o.Deploy(spec=spec_of(replicas=replicas, **fields)))
    simulation.run(60.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    simulation.steps.clear()
    return simulation


def options(**given: Any) -> RolloutOptions:
    return RolloutOptions.model_validate(given)


def told(simulation: Simulation, *kinds: str) -> list[str]:
    """The steps of these kinds, in order."""
    return [words for words in simulation.kinds() if words.split()[0] in kinds]


def running(simulation: Simulation) -> list[str]:
    return sorted(name for name, seen in simulation.seen().items() if seen.state is RunState.RUNNING)


def releases(simulation: Simulation) -> list[int]:
    """Of which releases the running replicas are, slot by slot."""
    seen = simulation.seen().values()
    return [one.release for one in sorted(seen, key=lambda one: one.slot) if one.state is RunState.RUNNING]


def serving(simulation: Simulation) -> int:
    return simulation.here().serving


def settled(simulation: Simulation) -> None:
    """The app is as it is to be and the loop has nothing to do."""
    check_settled(simulation)
