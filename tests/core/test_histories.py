"""Whatever people ask for and whatever breaks, in whatever order: the rules of design.md hold after every step, every
rollout comes to an end, and then the app is as it is to be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, seed, settings
from hypothesis import strategies as st
from tests.conftest import CI, FULL

from rota.core.spec import FailureAction, Mode, Order, RolloutOptions
from rota.core.steering import Pace
from rota.testing.simulation_history import DNS, MOODS, Deed, History, Life, check_settled

EXAMPLES = 10_000 if FULL else 500
PARTS = 5

orders = st.sampled_from([None, *Order])
options = st.builds(
    RolloutOptions,
    mode=st.sampled_from([None, None, None, Mode.SIMULTANEOUS]),
    order=orders,
    parallelism=st.sampled_from([None, 1, 2, "50%"]),
    delay=st.sampled_from([None, 0.0, 2.0]),
    min_available=st.sampled_from([None, None, 0, 1, 2]),
    failure_action=st.sampled_from([None, None, *FailureAction]),
    max_failure_ratio=st.sampled_from([None, None, 0.4]),
    progress_deadline=st.just(20.0),
    monitor=st.sampled_from([None, None, 0.0, 5.0]),
    remove_from_dns=st.booleans(),
)
monitors = st.sampled_from([None, 0, 5])


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    wanted: dict[str, Any] = {"replicas": draw(st.integers(1, 5)), "min_ready_seconds": draw(st.sampled_from([0, 1]))}
    wanted["repair"] = {"unhealthy_grace": draw(st.sampled_from([0, 1, 30])), "max_at_once": draw(st.integers(1, 2))}
    wanted["restart"] = {"attempts": 3, "delay": 0.1, "max_delay": 4.0, "give_up": draw(st.booleans())}
    if draw(st.integers(0, 3)) == 0:
        wanted["weights"] = {1: draw(st.sampled_from([1, 50, 256]))}
    if draw(st.integers(0, 3)) == 0:
        wanted["health_check"] = {"type": "exec", "command": ["check"], "interval": draw(st.sampled_from([0.1, 2]))}
    if draw(st.integers(0, 2)) == 0:
        wanted |= {"sticky": True, "drain": {"timeout": 0.2, "session_timeout": draw(st.sampled_from([None, 0, 0.1]))}}
    strategy = draw(st.sampled_from(["rolling", "rolling", "rolling", "replace", "blue-green", "one generation"]))
    if strategy == "one generation":
        wanted["overlap"] = "forbid"
    elif strategy != "rolling":
        wanted |= {"deployment_strategy": strategy, "keep_old": draw(st.sampled_from([0, 3, 40]))}
    sections = rolling if strategy == "rolling" else whole
    wanted["rollout"] = {"progress_deadline": 20} | draw(
        sections(wanted["replicas"], ("rollback", "pause", "continue"))
    )
    wanted["rollback"] = draw(st.one_of(st.just({}), sections(wanted["replicas"], ("pause", "continue"))))
    return wanted


@st.composite
def rolling(draw: st.DrawFn, replicas: int, actions: tuple[str, ...]) -> dict[str, Any]:
    """A section of a file whose replicas are changed one by one. Some of these are refused when they meet: a floor of
    all of them with stop-first in the other section, or one above the count that they are scaled to."""
    return {
        "order": draw(st.sampled_from([None, "start-first", "stop-first"])) if replicas > 1 else None,
        "parallelism": draw(st.sampled_from([None, 1, 2, "100%"])),
        "failure_action": draw(st.sampled_from([None, None, *actions])),
        "delay": draw(st.sampled_from([None, 0, 2])),
        "min_available": draw(st.sampled_from([None, None, *range(replicas + 1)])),
        "max_failure_ratio": draw(st.sampled_from([None, None, 0.4])),
        "monitor": draw(monitors),
    }


def whole(replicas: int, actions: tuple[str, ...]) -> st.SearchStrategy[dict[str, Any]]:
    """Where all of them change or none does, whatever their number: to go on with a part is refused."""
    possible = [None, *(action for action in actions if action != "continue")]
    return st.fixed_dictionaries({"failure_action": st.sampled_from(possible), "monitor": monitors})


plain = {
    "rollout": {"progress_deadline": 20},
    "rollback": {},
    "deployment_strategy": "rolling",
    "overlap": "allow",
}
changes = st.sampled_from(
    [
        {},
        {},
        {},
        {"replicas": 2},
        {"replicas": 4},
        {"health_check": {"fall": 2}},
        {"health_check": {"type": "exec", "command": ["other check"]}},
        {"sticky": {"max_age": 9}},
        {"weights": {1: 20}},
        {**plain, "deployment_strategy": "blue-green", "keep_old": 20},
        {**plain, "overlap": "forbid"},
    ]
)
deeds = st.one_of(
    st.tuples(st.just("deploy"), st.tuples(st.sampled_from(["good", "good", *MOODS]), changes, st.booleans())),
    st.tuples(st.just("restart"), st.tuples(options, st.booleans())),
    st.tuples(st.just("redeploy"), st.none()),
    st.tuples(st.just("rollback"), st.booleans()),
    st.tuples(st.just("limits"), st.tuples(st.sampled_from([8, 9, 64, 65]), options)),
    st.tuples(st.just("scale"), st.integers(1, 5)),
    st.tuples(st.just("stop"), st.booleans()),
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("remove"), st.none()),
    st.tuples(st.just("steer"), st.sampled_from(["pause", "resume", "abort"])),
    st.tuples(st.just("skip"), st.integers(1, 5)),
    st.tuples(st.just("tune"), st.sampled_from([Pace(delay=1.0), Pace(parallelism="50%"), Pace(parallelism=3)])),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("kill"), st.integers(0, 9)),
    st.tuples(st.just("stop_by_hand"), st.integers(0, 9)),
    st.tuples(st.just("vanish"), st.integers(0, 9)),
    st.tuples(st.just("sicken"), st.tuples(st.integers(0, 9), st.sampled_from([0.3, 3.0, 30.0]))),
    st.tuples(st.just("sicken_all"), st.sampled_from([0.3, 3.0, 90.0])),
    st.tuples(st.just("crash"), st.sampled_from([None, 0, 1, 2])),
    st.tuples(st.just("refuse"), st.integers(1, 6)),
    st.tuples(st.just("dns"), st.sampled_from(["lose", "restore", "tear"])),
    st.tuples(st.just("lose_balancer"), st.sampled_from([0.2, 2.0])),
)
waits = st.sampled_from([0.0, 0.05, 0.2, 0.6, 1.7, 5.0, 30.0])
lives = st.lists(st.builds(lambda wait, deed: Deed(wait, *deed), waits, deeds), max_size=8)


SHORT_LIVES = History(
    {
        "replicas": 4,
        "min_ready_seconds": 0,
        "repair": {"unhealthy_grace": 0},
        "restart": {"attempts": 3, "delay": 0.1, "max_delay": 4.0},
        "rollout": {"progress_deadline": 20, "delay": 2, "max_failure_ratio": 0.4, "monitor": 0},
    },
    [
        Deed(30.0, "sicken_all", 0.3),
        Deed(0.0, "lose_balancer", 0.2),
        Deed(0.0, "refuse", 1),
        Deed(0.0, "deploy", ("short-lived", {}, False)),
    ],
    seed=0,
    dns="blocks",
)
"""Of a release whose replicas die as soon as that does not count any more."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_every_history_keeps_the_rules_and_ends_as_it_is_to_be(part: int) -> None:
    """In parts, so that several workers play them."""

    @settings(max_examples=EXAMPLES // PARTS, suppress_health_check=list(HealthCheck))
    @given(st.builds(History, files(), lives, st.integers(0, 2**16), st.sampled_from([*DNS])))
    def holds(history: History) -> None:
        life = Life(history)
        life.play()
        if life.is_to_work:
            event("it works in the end")
            check_settled(life.simulation)

    (seed(part)(holds) if CI else holds)()  # where nothing is random each part is to have its own


@pytest.mark.parametrize(
    "deeds", [SHORT_LIVES.deeds, [SHORT_LIVES.deeds[1], SHORT_LIVES.deeds[0], SHORT_LIVES.deeds[3]]]
)
def test_histories_that_once_broke_a_rule(deeds: list[Deed]) -> None:
    life = Life(replace(SHORT_LIVES, deeds=deeds))
    life.play()
    if life.is_to_work:
        check_settled(life.simulation)
