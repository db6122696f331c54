"""What DNS says of an app: it follows what is in rotation, and a hand-off that removes records waits for the caches."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import options, running, serving, settled, told

from rota.core import handoff, steering
from rota.core import order as o
from rota.core import steps as s
from rota.core.begin import begin
from rota.core.durations import Durations
from rota.core.forecast import forecast
from rota.core.names import ReplicaId
from rota.core.observation import Address, ObservedDns, Published
from rota.core.plan import plan
from rota.core.rollout import Cause, Phase
from rota.testing.dns import FakeDns
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, mood_of, spec_of
from rota.testing.simulation_rules import DesignRules

TTL = 5.0
DOMAIN = {"domain": "www.example.org"}
STEPS = ("PublishRecords", "WithdrawRecords", "NoteWithdrawn", "DisableServer")


def named(view: FakeDns) -> set[str]:
    return set(view.seen.get("web", {}))


def life(*views: FakeDns, replicas: int = 3, **fields: Any) -> Simulation:
    """The app deployed and settled; the views are ``internal`` and ``zone``."""
    simulation = Simulation(rules=DesignRules())
    simulation.dns.update(zip(("internal", "zone"), views, strict=False))
    simulation.runtime.faults = lambda order: MOODS[mood_of(order.spec)]
    simulation.order(o.Deploy(spec=spec_of(replicas=replicas, domains=[DOMAIN], **fields)))
    simulation.run(60.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    simulation.steps.clear()
    return simulation


def at(simulation: Simulation, kind: type, replica: str) -> float:
    """When this step was decided on, the first time."""
    return next(done.at for done in simulation.steps if type(done.step) is kind and done.step.replica == replica)


def both(**changes: Any) -> tuple[FakeDns, FakeDns]:
    return FakeDns(ttl=1.0), FakeDns("example.org", ttl=TTL, **changes)


@pytest.mark.feature("J3")
def test_what_is_in_rotation_is_named_and_nothing_else() -> None:
    internal, zone = both()
    simulation = life(internal, zone)
    assert named(internal) == named(zone) == {"web-1", "web-2", "web-3"}
    simulation.order(o.Scale(replicas=1))
    simulation.run(60.0)
    assert named(internal) == named(zone) == {"web-1"}
    assert not told(simulation, "NoteWithdrawn"), "nobody asked for a wait"
    settled(simulation)


@pytest.mark.feature("V5", "R2")
def test_users_past_the_balancer_are_waited_for_once_no_cache_has_the_name() -> None:
    simulation = life(*both(), drain={"timeout": "20s"})
    simulation.stays = lambda replica: {"web-1": 7.0, "web-2": 100.0}.get(replica, 0.0)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(300.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    waited = [
        at(simulation, s.StopReplica, f"web-{n}") - at(simulation, s.DisableServer, f"web-{n}") for n in (1, 2, 3)
    ]
    assert waited == pytest.approx([7.0, 20.0, 0.0], abs=handoff.POLL_DIRECT)
    assert simulation.rollout.cut == 1, "what was open at the deadline is counted"
    assert told(simulation, "CutConnections") == ["CutConnections web-2"]
    settled(simulation)


def test_users_past_the_balancer_are_nobody_s_concern_where_dns_is_not_asked() -> None:
    simulation = life(*both())
    simulation.stays = lambda replica: 100.0
    simulation.order(o.Restart(policy=options(remove_from_dns=False)))
    simulation.run(60.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert simulation.rollout.cut == 0
    settled(simulation)


def test_without_any_view_there_is_nothing_to_do() -> None:
    simulation = life()
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(60.0)
    assert told(simulation, "PublishRecords", "WithdrawRecords", "NoteWithdrawn") == []
    settled(simulation)


@pytest.mark.feature("V5", "R2")
@pytest.mark.parametrize("order", ["start-first", "stop-first", "in-place"])
def test_a_replica_leaves_dns_for_its_ttl_before_it_is_disabled(order: str) -> None:
    internal, zone = both()
    simulation = life(internal, zone)
    simulation.order(o.Restart(policy=options(order=order, remove_from_dns=True)))
    seen: list[int] = []
    simulation.run(300.0, lambda: bool(seen.append(min(len(named(internal)), len(named(zone))))))
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert min(seen) >= 2, "a name lost more than the one that was changed"
    for replica in ("web-1", "web-2", "web-3"):
        assert at(simulation, s.DisableServer, replica) >= at(simulation, s.NoteWithdrawn, replica) + TTL
    assert named(internal) == named(zone) == set(running(simulation))
    settled(simulation)


def test_the_next_replica_waits_until_the_last_one_is_named() -> None:
    internal, zone = both(required=True)
    simulation = life(internal, zone)
    zone.fail("publish", 8)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(300.0, lambda: bool(told(simulation, "FinishSlot")))
    assert len(named(zone)) >= 3
    assert len(told(simulation, "TakeSlot")) == 1


@pytest.mark.feature("J3", "V5")
@pytest.mark.parametrize("parallelism", [1, 2, 3])
def test_an_heir_is_named_before_its_predecessor_leaves(parallelism: int) -> None:
    internal, zone = both()
    simulation = life(internal, zone)
    simulation.takes = lambda step: 0.7 if isinstance(step, s.PublishRecords) else 0.0
    fewest = {"internal": 3, "zone": 3}

    def look() -> bool:
        for name, view in (("internal", internal), ("zone", zone)):
            fewest[name] = min(fewest[name], len(named(view)))
        return False

    simulation.order(o.Restart(policy=options(remove_from_dns=True, parallelism=parallelism)))
    simulation.run(120.0, look)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert fewest == {"internal": 3, "zone": 3}
    settled(simulation)


@pytest.mark.feature("V5")
def test_the_last_record_of_a_name_stays() -> None:
    internal, zone = both()
    simulation = life(internal, zone, replicas=1)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    empty: list[bool] = []
    simulation.run(100.0, lambda: bool(empty.append(not named(internal) or not named(zone))))
    assert True not in empty
    assert told(simulation, *STEPS)[:2] == ["PublishRecords web-2", "PublishRecords web-2"]
    assert at(simulation, s.DisableServer, "web-1") >= at(simulation, s.NoteWithdrawn, "web-1") + TTL
    simulation.steps.clear()
    simulation.order(o.Restart(policy=options(mode="simultaneous", remove_from_dns=True)))
    simulation.run(100.0, lambda: bool(empty.append(not named(internal) or not named(zone))))
    assert True not in empty
    assert named(internal) == {"web-3"}
    settled(simulation)


@pytest.mark.feature("V5")
def test_the_last_record_of_a_type_stays_while_the_name_has_one_of_another() -> None:
    internal, zone = both()
    simulation = life(internal, zone, replicas=1)
    simulation.runtime.host = lambda order: "fd00::1" if order.slot == 2 else "127.0.0.1"
    simulation.order(o.Scale(replicas=2))
    simulation.run(60.0)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    always: list[bool] = []
    simulation.run(100.0, lambda: bool(always.append(all("127.0.0.1" in hosts_of(view) for view in (internal, zone)))))
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert set(always) == {True}, "an answer without A"
    assert "web-1" not in named(internal), "another A took its place"
    simulation.order(o.Restart(policy=options(order="stop-first", remove_from_dns=True)))
    simulation.run(100.0, lambda: bool(always.append(all("127.0.0.1" in hosts_of(view) for view in (internal, zone)))))
    assert set(always) == {True}, "an answer without A"
    settled(simulation)


def hosts_of(view: FakeDns) -> set[str]:
    return {shown.address.host for shown in view.seen["web"].values()}


def test_addresses_of_a_node_are_the_same_for_each_replica() -> None:
    published = {
        ReplicaId("web-1"): Published(Address("10.0.0.1", 1)),
        ReplicaId("web-2"): Published(Address("::1", 1)),
    }
    assert [ObservedDns(published).kind(name) for name in published] == ["A", "AAAA"]
    assert {ObservedDns(published, shared=True).kind(name) for name in published} == {""}


def test_a_replica_that_dies_is_named_until_another_serves() -> None:
    internal, _ = both()
    simulation = life(internal, replicas=1)
    simulation.runtime.crash(ReplicaId("web-1"), 1)
    simulation.run(0.0, lambda: serving(simulation) == 0)
    assert named(internal) == {"web-1"}
    simulation.run(60.0)
    assert named(internal) == {"web-2"}
    settled(simulation)


def test_a_name_that_the_new_release_gives_up_is_withdrawn_with_its_last_replica() -> None:
    _, zone = both()
    simulation = life(FakeDns(), zone)
    two = [{"domain": "shop.example.org"}]
    simulation.order(o.Deploy(spec=spec_of(replicas=3, domains=two), policy=options(remove_from_dns=True)))
    simulation.run(300.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert {hosts for shown in zone.seen["web"].values() for hosts in shown.hosts} == {"shop.example.org"}
    elsewhere = [{"domain": "shop.example.net"}]
    simulation.order(o.Deploy(spec=spec_of(replicas=3, domains=elsewhere), policy=options(remove_from_dns=True)))
    simulation.run(300.0)
    assert named(zone) == set()
    settled(simulation)


@pytest.mark.feature("V5")
def test_a_required_server_that_is_down_holds_the_rollout_up_until_it_is_back() -> None:
    internal, zone = both(required=True)
    simulation = life(internal, zone)
    zone.lose()
    simulation.order(o.Restart(policy=options(order="stop-first", remove_from_dns=True)))
    simulation.run(60.0)
    assert told(simulation, "DisableServer") == []
    assert serving(simulation) == 3
    zone.restore()
    simulation.run(200.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert named(internal) == named(zone) == set(running(simulation))
    settled(simulation)


def test_a_required_server_that_stays_down_turns_the_rollout_back_in_the_end() -> None:
    _, zone = both(required=True)
    simulation = life(FakeDns(), zone)
    zone.lose()
    policy = options(remove_from_dns=True, progress_deadline=20)
    simulation.order(o.Restart(policy=policy))
    simulation.run(400.0, lambda: simulation.rollout.phase is not Phase.PROGRESSING and simulation.rollout.back)
    assert simulation.rollout.cause is Cause.PROGRESS_DEADLINE
    zone.restore()
    simulation.run(400.0)
    assert simulation.rollout.phase is Phase.ROLLED_BACK
    assert named(zone) == set(running(simulation))
    settled(simulation)


@pytest.mark.feature("V5")
def test_a_server_that_only_warns_holds_nothing_up_and_is_set_right_later() -> None:
    internal, zone = both()
    simulation = life(internal, zone)
    zone.lose()
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(100.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert named(zone) == {"web-1", "web-2", "web-3"}
    zone.restore()
    simulation.run(10.0)
    assert named(internal) == named(zone) == {"web-4", "web-5", "web-6"}
    settled(simulation)


def test_an_update_that_fails_is_tried_again_and_the_wait_counts_from_its_success() -> None:
    internal, zone = both(required=True)
    simulation = life(internal, zone)
    zone.fail("withdraw", 3)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(200.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    tries = [
        done.at for done in simulation.steps if isinstance(done.step, s.WithdrawRecords) and done.step.view == "zone"
    ]
    assert at(simulation, s.NoteWithdrawn, "web-1") >= tries[3]
    assert at(simulation, s.DisableServer, "web-1") >= tries[3] + TTL


def test_a_rollout_that_goes_back_during_the_wait_names_the_replica_again() -> None:
    internal, zone = both()
    simulation = life(internal, zone)
    simulation.order(o.Restart(policy=options(order="stop-first", remove_from_dns=True)))
    simulation.run(100.0, lambda: bool(told(simulation, "NoteWithdrawn")))
    assert named(zone) == {"web-2", "web-3"}
    simulation.ask(steering.abort)
    simulation.run(100.0)
    assert simulation.rollout.phase is Phase.CANCELLED
    assert named(zone) == running_names(simulation) == {"web-1", "web-2", "web-3"}
    assert told(simulation, "DisableServer") == []
    simulation.steps.clear()
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(200.0)
    assert at(simulation, s.DisableServer, "web-1") >= at(simulation, s.NoteWithdrawn, "web-1") + TTL


def running_names(simulation: Simulation) -> set[str]:
    return set(running(simulation))


def test_a_withdrawal_that_was_written_down_and_never_made_is_taken_back() -> None:
    internal = FakeDns()
    simulation = life(internal)
    internal.fail("withdraw", 1000)
    simulation.order(o.Restart(policy=options(order="stop-first", remove_from_dns=True)))
    simulation.run(100.0, lambda: bool(told(simulation, "WithdrawRecords")))
    simulation.ask(steering.abort)
    simulation.run(100.0)
    assert simulation.rollout.phase is Phase.CANCELLED
    assert simulation.state is not None
    assert {record.withdraw_began_at for record in simulation.state.recorded.replicas.values()} == {None}


def test_the_wait_outlives_the_daemon() -> None:
    internal, zone = both()
    simulation = life(internal, zone)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(100.0, lambda: bool(told(simulation, "NoteWithdrawn")))
    noted = simulation.now
    simulation.run(TTL / 2)
    simulation.restart_daemon()
    simulation.run(100.0, lambda: bool(told(simulation, "DisableServer")))
    assert noted + TTL <= simulation.now <= noted + TTL + 0.1


def test_an_heir_that_dies_during_the_wait_leaves_the_old_one_named() -> None:
    internal = FakeDns(ttl=TTL)
    simulation = life(internal, replicas=1)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    simulation.run(100.0, lambda: bool(told(simulation, "NoteWithdrawn")))
    simulation.runtime.crash(ReplicaId("web-2"), 1)
    simulation.run(100.0, lambda: "web-1" in named(internal))
    assert "web-1" in named(internal)
    simulation.run(200.0)
    assert named(internal) == set(running(simulation))
    settled(simulation)


def test_what_somebody_took_out_is_put_back_and_what_is_left_over_is_taken_out() -> None:
    internal, zone = both()
    simulation = life(internal, zone)
    del zone.seen["web"][ReplicaId("web-2")]
    zone.seen["web"][ReplicaId("web-9")] = Published(Address("10.0.0.9", 80), frozenset({"www.example.org"}))
    simulation.run(40.0)
    assert named(zone) == {"web-1", "web-2", "web-3"}
    settled(simulation)


def test_nothing_is_left_of_an_app_that_is_stopped_or_removed() -> None:
    internal, zone = both(required=True)
    simulation = life(internal, zone)
    simulation.order(o.Stop(remove=True))
    simulation.run(60.0)
    assert named(internal) == named(zone) == set()
    simulation.order(o.Start())
    simulation.run(60.0)
    assert len(named(zone)) == 3
    zone.lose()
    simulation.order(o.Remove())
    simulation.run(60.0)
    assert simulation.state is not None, "its records are still there"
    zone.restore()
    simulation.run(60.0)
    assert simulation.state is None
    assert named(internal) == named(zone) == set()


def test_an_app_is_removed_without_a_server_that_only_warns() -> None:
    _, zone = both()
    simulation = life(FakeDns(), zone)
    zone.lose()
    simulation.order(o.Remove())
    simulation.run(60.0)
    assert simulation.state is None


def test_a_plan_has_the_waits_in_it() -> None:
    simulation = life(*both(required=True))
    assert simulation.state is not None
    order = o.Restart(policy=options(remove_from_dns=True))
    ordered = begin(simulation.state, order, "web", simulation.now, {})
    foreseen = forecast(ordered, simulation.observe(), Durations(), simulation.now)
    assert foreseen.phase is Phase.SUCCEEDED
    noted, disabled = (
        next(planned.after for planned in foreseen.steps if isinstance(planned.step, kind))
        for kind in (s.NoteWithdrawn, s.DisableServer)
    )
    assert disabled == pytest.approx(noted + TTL)


def test_a_name_that_was_perhaps_given_takes_nobody_s_place() -> None:
    internal = FakeDns(ttl=TTL)
    simulation = life(internal, replicas=1)
    simulation.order(o.Restart(policy=options(remove_from_dns=True)))
    internal.tear()
    simulation.run(100.0)
    published = [done.at for done in simulation.steps if isinstance(done.step, s.PublishRecords)]
    assert len(published) == 2, "it is given again"
    assert at(simulation, s.WithdrawRecords, "web-1") >= published[1]
    assert simulation.rollout.phase is Phase.SUCCEEDED
    settled(simulation)


def test_a_name_that_was_perhaps_taken_out_is_waited_for() -> None:
    internal = FakeDns(ttl=TTL)
    simulation = life(internal)
    simulation.order(o.Restart(policy=options(order="stop-first", remove_from_dns=True)))
    internal.tear()
    simulation.run(100.0)
    withdrawn = [done.at for done in simulation.steps if isinstance(done.step, s.WithdrawRecords)]
    assert len(withdrawn) == 4, "the first one is taken out again"
    assert at(simulation, s.DisableServer, "web-1") >= withdrawn[1] + TTL
    assert simulation.rollout.phase is Phase.SUCCEEDED
    settled(simulation)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"delay": 2}, "5.0 s before it leaves the balancer, so that no cache has its records, which is longer than"),
        ({"delay": 9}, "5.0 s before it leaves the balancer, so that no cache has its records"),
        ({}, "5.0 s before it leaves the balancer, so that no cache has its records"),
        ({"remove_from_dns": False}, ""),
    ],
)
def test_a_plan_says_how_long_caches_are_waited_for(policy: dict[str, Any], said: str) -> None:
    simulation = life(*both(required=True))
    assert simulation.state is not None
    order = o.Restart(policy=options(**{"remove_from_dns": True, **policy}))
    made = plan(begin(simulation.state, order, "web", simulation.now, {}), simulation.observe(), Durations(), 0.0)
    assert said in made.dns
    assert bool(made.dns) == bool(said)
    assert ("longer" in made.dns) == ("longer" in said)
    assert made.ttl == (TTL if said else 0.0)


def test_an_app_that_has_nothing_in_the_zone_has_nothing_to_do_with_it() -> None:
    zone = FakeDns("example.com")
    life(FakeDns(), zone)
    assert zone.calls == []
