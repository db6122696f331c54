"""Whatever people ask for and whatever breaks, in whatever order: the rules of design.md hold after every step, every
rollout comes to an end, and then the app is as it is to be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.conftest import FULL

from rota.core.spec import FailureAction, Mode, Order, RolloutOptions
from rota.core.steering import Pace
from rota.testing.simulation_history import DNS, MOODS, Deed, History, Life, check_settled

EXAMPLES = 10_000 if FULL else 500

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
    remove_from_dns=st.booleans(),
)


@st.composite
def files(draw: st.DrawFn) -> dict[str, Any]:
    wanted: dict[str, Any] = {"replicas": draw(st.integers(1, 5)), "min_ready_seconds": draw(st.sampled_from([0, 1]))}
    wanted["repair"] = {"unhealthy_grace": draw(st.sampled_from([0, 1, 30])), "max_at_once": draw(st.integers(1, 2))}
    if draw(st.integers(0, 3)) == 0:
        wanted["health_check"] = {"type": "exec", "command": ["check"], "interval": draw(st.sampled_from([0.1, 2]))}
    if draw(st.integers(0, 2)) == 0:
        wanted |= {"sticky": True, "drain": {"timeout": 0.2, "session_timeout": draw(st.sampled_from([None, 0, 0.1]))}}
    strategy = draw(st.sampled_from(["rolling", "rolling", "rolling", "replace", "blue-green", "one generation"]))
    if strategy != "rolling":
        wanted["rollout"] = {"progress_deadline": 20, "failure_action": draw(st.sampled_from([None, "pause"]))}
        if strategy == "one generation":
            wanted["overlap"] = "forbid"
        else:
            wanted |= {"deployment_strategy": strategy, "keep_old": draw(st.sampled_from([0, 3, 40]))}
    else:
        order = draw(st.sampled_from([None, "start-first", "stop-first"])) if wanted["replicas"] > 1 else None
        parallelism = draw(st.sampled_from([None, 1, 2, "100%"]))
        action = draw(st.sampled_from([None, None, "rollback", "pause", "continue"]))
        delay = draw(st.sampled_from([None, 0, 2]))
        wanted["rollout"] = {
            "order": order,
            "parallelism": parallelism,
            "failure_action": action,
            "delay": delay,
            "progress_deadline": 20,
        }
    return wanted


plain = {"rollout": {"progress_deadline": 20}, "deployment_strategy": "rolling", "overlap": "allow"}
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
        {**plain, "deployment_strategy": "blue-green", "keep_old": 20},
        {**plain, "overlap": "forbid"},
    ]
)
deeds = st.one_of(
    st.tuples(st.just("deploy"), st.tuples(st.sampled_from(["good", "good", *MOODS]), changes, st.booleans())),
    st.tuples(st.just("restart"), st.tuples(options, st.booleans())),
    st.tuples(st.just("redeploy"), st.none()),
    st.tuples(st.just("rollback"), st.booleans()),
    st.tuples(st.just("limits"), st.tuples(st.integers(8, 9), options)),
    st.tuples(st.just("scale"), st.integers(1, 5)),
    st.tuples(st.just("stop"), st.booleans()),
    st.tuples(st.just("start"), st.none()),
    st.tuples(st.just("remove"), st.none()),
    st.tuples(st.just("steer"), st.sampled_from(["pause", "resume", "abort"])),
    st.tuples(st.just("skip"), st.integers(1, 5)),
    st.tuples(st.just("tune"), st.sampled_from([Pace(delay=1.0), Pace(parallelism="50%"), Pace(parallelism=3)])),
    st.tuples(st.just("suspend"), st.booleans()),
    st.tuples(st.just("kill"), st.integers(0, 9)),
    st.tuples(st.just("vanish"), st.integers(0, 9)),
    st.tuples(st.just("sicken"), st.tuples(st.integers(0, 9), st.sampled_from([0.3, 3.0, 30.0]))),
    st.tuples(st.just("sicken_all"), st.sampled_from([0.3, 3.0, 90.0])),
    st.tuples(st.just("crash"), st.sampled_from([None, 0, 1, 2])),
    st.tuples(st.just("refuse"), st.integers(1, 6)),
    st.tuples(st.just("dns"), st.sampled_from(["lose", "restore"])),
    st.tuples(st.just("lose_balancer"), st.sampled_from([0.2, 2.0])),
)
waits = st.sampled_from([0.0, 0.05, 0.2, 0.6, 1.7, 5.0, 30.0])
lives = st.lists(st.builds(lambda wait, deed: Deed(wait, *deed), waits, deeds), max_size=8)


@pytest.mark.timeout(3600)
@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(st.builds(History, files(), lives, st.integers(0, 2**16), st.sampled_from([*DNS])))
def test_every_history_keeps_the_rules_and_ends_as_it_is_to_be(history: History) -> None:
    life = Life(history)
    life.play()
    if life.is_to_work:
        event("it works in the end")
        check_settled(life.simulation)
