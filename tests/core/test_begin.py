"""Which orders are refused, with which words, and what the others change at once."""

from __future__ import annotations

import pytest
from tests.core.scenario import deployed, empty, options, releases, serving

from rota.core import order as o
from rota.core import steering
from rota.core.begin import begin
from rota.core.errors import Conflict, DomainTaken, NotFound, UsageError
from rota.core.rollout import Kind, Phase
from rota.testing.simulation_history import spec_of


@pytest.mark.parametrize("order", [o.Restart(), o.Scale(replicas=2), o.Stop(), o.Remove(), o.Rollback()])
def test_nothing_can_be_asked_of_an_app_that_is_not_there(order: o.Order) -> None:
    with pytest.raises(NotFound, match="there is no app 'web'; rota ls lists them"):
        begin(None, order, "web", 0.0, {})


def test_the_file_must_be_of_the_app_that_is_named() -> None:
    with pytest.raises(UsageError, match="the file describes 'web', not 'other'"):
        begin(None, o.Deploy(spec=spec_of()), "other", 0.0, {})


def test_a_domain_of_another_app_is_refused() -> None:
    spec = spec_of(domains=[{"domain": "example.org"}])
    with pytest.raises(DomainTaken, match=r"example\.org belongs to the app 'shop'") as refused:
        begin(None, o.Deploy(spec=spec), "web", 0.0, {"example.org": "shop"})
    assert refused.value.key == "domains.0.domain"


@pytest.mark.parametrize(
    ("domain", "site", "key"),
    [
        ({"domain": "b.org", "aliases": ["c.org", "example.org"]}, "example.org", "domains.0.aliases.1"),
        ({"domain": "example.org", "path": "/api"}, "example.org/api", "domains.0.domain"),
        ({"domain": "*.example.org"}, "*.example.org", "domains.0.domain"),
    ],
)
def test_a_site_of_another_app_is_refused_at_its_key(domain: dict[str, object], site: str, key: str) -> None:
    others = {site: "shop"}
    with pytest.raises(DomainTaken, match="belongs to the app 'shop'") as refused:
        begin(None, o.Deploy(spec=spec_of(domains=[domain])), "web", 0.0, others)
    assert refused.value.key == key
    assert begin(None, o.Deploy(spec=spec_of(domains=[{"domain": "b.org"}])), "web", 0.0, others)


def test_the_name_that_an_app_has_without_domains_may_be_taken() -> None:
    with pytest.raises(DomainTaken) as refused:
        begin(None, o.Deploy(spec=spec_of()), "web", 0.0, {"web.localhost": "shop"})
    assert refused.value.key == "name"


def test_a_way_back_that_cannot_be_is_refused_at_the_first_deploy() -> None:
    """Not at the first restart, by which time the app serves."""
    spec = spec_of(replicas=5, rollback={"order": "stop-first", "min_available": 5})
    with pytest.raises(UsageError, match="rollback section: stop-first cannot keep all 5"):
        begin(None, o.Deploy(spec=spec), "web", 0.0, {})


@pytest.mark.parametrize(
    "section",
    [
        {"rollback": {"order": "stop-first"}},
        {"rollback": {"min_available": 2}},
        {"update_config": {"failure_action": "rollback"}, "rollback_config": {}},
    ],
    ids=str,
)
def test_a_rollback_section_for_many_replicas_holds_up_no_order_of_one(section: dict[str, object]) -> None:
    """The file is right by itself; the way back from it goes to the one replica that there was."""
    app = deployed(1)
    app.order(o.Deploy(spec=spec_of("crashing", replicas=3, **section)))
    app.run(120.0)
    assert (app.rollout.phase, releases(app)) == (Phase.ROLLED_BACK, [1])
    app.order(o.Deploy(spec=spec_of(replicas=3, **section)))
    app.run(120.0)
    app.order(o.Scale(replicas=1))
    app.run(60.0)
    app.order(o.Restart(policy=options(order="start-first")))
    app.run(60.0)
    assert app.rollout.phase is Phase.SUCCEEDED


def test_a_second_rollout_is_refused_and_names_the_first() -> None:
    app = deployed()
    app.order(o.Restart())
    told = r"web\.2 \(restart\) is under way; wait for it, abort it, or give --supersede"
    with pytest.raises(Conflict, match=told) as refused:
        app.order(o.Redeploy())
    assert refused.value.rollout == "web.2"


def test_an_app_that_is_being_removed_takes_no_orders() -> None:
    app = deployed()
    app.order(o.Remove())
    with pytest.raises(Conflict, match="web is being removed"):
        app.order(o.Restart())


@pytest.mark.parametrize("order", [o.Restart(), o.Redeploy(), o.Scale(replicas=2), o.ChangeLimits(memory=None)])
def test_a_stopped_app_must_be_started_first(order: o.Order) -> None:
    app = deployed()
    app.order(o.Stop())
    app.run(30.0)
    with pytest.raises(Conflict, match="web is stopped; rota start web starts it"):
        app.order(order)


def test_an_app_about_to_stop_is_not_scaled() -> None:
    app = deployed()
    app.order(o.Stop())
    with pytest.raises(Conflict, match="web is stopped or about to be"):
        app.order(o.Scale(replicas=2))


def test_names_go_on_where_those_of_a_removed_app_ended() -> None:
    app = deployed(replicas=2)
    app.order(o.Restart())
    app.run(30.0)
    app.order(o.Remove())
    app.run(30.0)
    assert app.state is None
    state = begin(None, o.Deploy(spec=spec_of()), "web", app.now, {}, app.rollout)
    assert state.recorded.rollout is not None
    assert (state.recorded.rollout.id, state.recorded.next_replica) == ("web.4", 5)


def test_an_app_that_runs_is_not_started() -> None:
    app = deployed()
    with pytest.raises(Conflict, match="web is not stopped"):
        app.order(o.Start())


def test_a_rollback_needs_a_release_before() -> None:
    app = deployed()
    with pytest.raises(NotFound, match="web has no release before 1 to go back to"):
        app.order(o.Rollback())
    with pytest.raises(NotFound, match="web has no release 7; kept are 1"):
        app.order(o.Rollback(release=7))


def test_a_deploy_to_a_stopped_app_starts_it_all_at_once() -> None:
    app = deployed()
    app.order(o.Stop(remove=True))
    app.run(30.0)
    app.order(o.Deploy(spec=spec_of(replicas=3)))
    assert app.rollout.fresh
    assert app.rollout.policy.parallelism == 3
    app.run(30.0)
    assert app.rollout.phase is Phase.SUCCEEDED


def test_the_plain_kinds_do_not_stumble_over_the_files_policy() -> None:
    app = deployed(replicas=2, rollout={"order": "stop-first", "min_available": 1})
    app.order(o.Scale(replicas=1))
    assert app.rollout.kind is Kind.SCALE


def test_a_scale_during_a_rollout_stays_when_it_turns_back() -> None:
    app = deployed(replicas=2)
    app.order(o.Deploy(spec=spec_of("deaf", replicas=2)))
    app.run(1.0)
    app.order(o.Scale(replicas=3))
    app.run(120.0)
    assert app.rollout.phase is Phase.ROLLED_BACK
    assert app.state is not None
    assert app.state.desired.replicas == 3


def test_a_scale_may_be_changed_while_it_goes_on() -> None:
    app = deployed(replicas=2)
    app.order(o.Scale(replicas=4))
    app.order(o.Scale(replicas=3))
    app.run(30.0)
    assert app.rollout.phase is Phase.SUCCEEDED
    assert app.rollout.before_replicas == 2
    assert serving(app) == 3


class TestSteering:
    def test_only_a_rollout_that_takes_replicas_up_can_pause(self) -> None:
        app = deployed()
        app.order(o.Restart())
        with pytest.raises(Conflict, match=r"web\.2 is pending: only a rollout that takes replicas up can pause"):
            app.ask(steering.pause)

    def test_only_a_paused_rollout_can_resume(self) -> None:
        app = deployed()
        app.order(o.Restart())
        with pytest.raises(Conflict, match=r"web\.2 is not paused"):
            app.ask(steering.resume)

    def test_a_rollout_that_goes_back_is_not_aborted(self) -> None:
        app = deployed()
        app.order(o.Deploy(spec=spec_of("crashing", replicas=3), policy=options(order="stop-first")))
        app.run(30.0, until=lambda: app.rollout.back)
        with pytest.raises(Conflict, match=r"web\.2 is going back already"):
            app.ask(steering.abort)

    @pytest.mark.parametrize("order", [o.Stop(), o.Remove()])
    def test_a_stop_is_not_aborted(self, order: o.Order) -> None:
        app = deployed()
        app.order(order)
        with pytest.raises(Conflict, match="cannot be aborted; give the order that undoes it"):
            app.ask(steering.abort)


def test_a_rollout_waits_pending_until_it_is_looked_at() -> None:
    app = empty()
    app.order(o.Deploy(spec=spec_of()))
    assert app.rollout.phase is Phase.PENDING


def test_an_image_that_is_pulled_always_may_be_another_by_now() -> None:
    spec = spec_of(command=[], image={"repository": "shop", "pull": "always"})
    app = empty()
    for release in (1, 2):
        app.order(o.Deploy(spec=spec))
        app.run(60.0)
        assert app.state.desired.current.release == release
