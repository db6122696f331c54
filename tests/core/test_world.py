"""The model of the world by itself: what no rollout of today shows of it."""

from __future__ import annotations

from rota.core import steps as s
from rota.core.begin import begin
from rota.core.durations import Durations
from rota.core.names import ReplicaId
from rota.core.observation import Observation, ObservedBalancer, ObservedServer, ServerState
from rota.core.order import Deploy
from rota.core.world import World
from rota.testing.simulation_history import spec_of


def test_a_drained_server_serves_its_holders_and_what_is_open_at_first_is_not_modelled() -> None:
    name = ReplicaId("web-1")
    server = ObservedServer(name, "web.1", ServerState.READY, up=True, open=7, old_holders=1)
    state = begin(None, Deploy(spec=spec_of()), "web", 0.0, {})
    world = World(state, Observation(balancer=ObservedBalancer("1", {name: server})), Durations(), 0.0)
    world.begin((s.DrainServer(name, "its session is waited for"),), 0.0)
    assert world.observe(0.0).busy == {name}
    assert world.next_change(0.0) == Durations().enable.seconds
    seen = world.observe(1.0).balancer.servers[name]
    assert (seen.state, seen.up, seen.open, seen.old_holders) == (ServerState.DRAIN, True, 0, 0)


def test_maintenance_is_seen_once_its_call_is_over() -> None:
    state = begin(None, Deploy(spec=spec_of()), "web", 0.0, {})
    world = World(state, Observation(balancer=ObservedBalancer("1")), Durations(), 0.0)
    world.begin((s.SetMaintenance("asked for", on=True),), 0.0)
    assert not world.observe(0.0).balancer.maintenance
    assert world.observe(1.0).balancer.maintenance
