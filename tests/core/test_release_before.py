"""What `rota rollback` goes back to without a number: the last release that served, not one that was given up."""

from __future__ import annotations

import pytest
from tests.core.scenario import deployed, empty, options, releases, running

from rota.core import order as o
from rota.core import steering
from rota.core.decide import RELEASES_KEPT
from rota.core.errors import NotFound
from rota.core.names import ReplicaId
from rota.core.rollout import Phase
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of


def deploy(app: Simulation, mood: str, seconds: float = 0.0, phase: Phase = Phase.SUCCEEDED) -> None:
    """``seconds`` tell one release from another."""
    app.order(o.Deploy(spec=spec_of(mood, min_ready_seconds=seconds), supersede=True))
    app.run(200.0)
    assert app.rollout.phase is phase


def goes_back_to(app: Simulation, release: int) -> bool:
    app.order(o.Rollback())
    app.run(60.0)
    return app.rollout.phase is Phase.SUCCEEDED and set(releases(app)) == {release}


def test_a_release_that_was_rolled_back_is_passed_over() -> None:
    app = deployed()
    deploy(app, "crashing", phase=Phase.ROLLED_BACK)
    deploy(app, "good", 0.5)
    assert goes_back_to(app, 1)


def test_so_is_one_that_a_person_aborted() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of("good", min_ready_seconds=5.0)))
    app.run(1.0)
    app.ask(steering.abort)
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    deploy(app, "good", 0.5)
    assert goes_back_to(app, 1)


def test_so_is_one_that_gave_way_to_the_next() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of("deaf"), policy=options(failure_action="pause")))
    app.run(1.0)
    deploy(app, "good", 0.5)
    assert goes_back_to(app, 1)


def test_so_is_one_that_was_taken_back_within_monitor() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of("good", min_ready_seconds=0.5)))
    app.run(60.0, lambda: app.rollout.phase is Phase.SUCCEEDED)
    app.runtime.crash(ReplicaId(running(app)[0]), 3)
    app.run(60.0)
    assert set(releases(app)) == {1}
    deploy(app, "good", 0.7)
    assert goes_back_to(app, 1)


def test_so_is_one_that_a_person_went_back_from_until_it_serves_again() -> None:
    app = deployed()
    deploy(app, "good", 0.5)
    assert goes_back_to(app, 1)
    app.order(o.Rollback(release=2))  # forward; 1 is not given up by that
    app.run(60.0)
    assert goes_back_to(app, 1)
    deploy(app, "good", 0.7)
    assert goes_back_to(app, 1)
    app.order(o.Rollback(release=2))
    app.run(60.0)
    deploy(app, "good", 0.9)
    assert goes_back_to(app, 2)


def test_a_restart_that_is_aborted_gives_no_release_up() -> None:
    app = deployed()
    app.order(o.Restart(policy=options(delay=20)))
    app.run(2.0)
    app.ask(steering.abort)
    app.run(60.0)
    assert app.rollout.phase is Phase.CANCELLED
    deploy(app, "good", 0.5)
    assert goes_back_to(app, 1)


def test_by_its_number_a_release_that_was_given_up_can_be_asked_for() -> None:
    app = empty()
    app.order(o.Deploy(spec=spec_of("crashing")))
    app.run(200.0)
    deploy(app, "good")
    with pytest.raises(NotFound, match="web has no release before 2 that served; kept are 1, 2"):
        app.order(o.Rollback())
    app.order(o.Rollback(release=1))
    assert app.rollout.to_release == 1


def test_failed_deploys_do_not_push_it_out() -> None:
    app = deployed()
    deploy(app, "good", 0.5)
    for number in range(RELEASES_KEPT + 1):
        deploy(app, "crashing", 1.0 + number, Phase.ROLLED_BACK)
    assert goes_back_to(app, 1)


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_a_rollback_that_a_deploy_gives_way_to_goes_back_to_what_served(
    replicas: int, first: bool, strategy: str
) -> None:
    """Also where there is no release before that one."""
    app = deployed(replicas, deployment_strategy=strategy)
    if not first:
        deploy(app, "good", 0.5)
    serving = set(releases(app))
    before = running(app)
    spec = spec_of("good", min_ready_seconds=3.0, replicas=replicas, deployment_strategy=strategy)
    app.order(o.Deploy(spec=spec, policy=options(delay=5)))
    app.run(4.0 if strategy == "rolling" else 1.0)
    app.order(o.Rollback(supersede=True))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert set(releases(app)) == serving
    assert set(running(app)) & set(before) if replicas > 1 else True  # nobody is replaced who need not be


def test_a_stop_leaves_nothing_of_the_deploy_that_gives_way_to_it() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of("good", min_ready_seconds=1.0, replicas=3), policy=options(delay=30)))
    app.run(10.0)
    assert sorted(releases(app)) == [1, 1, 2]
    app.order(o.Stop(supersede=True))
    app.run(60.0)
    app.order(o.Start())
    app.run(60.0)
    assert releases(app) == [1, 1, 1]
