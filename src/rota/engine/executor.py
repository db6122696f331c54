"""The executor: turns one recorded step into its call on a port; called by the reconciler, never decides.

A step that fails is no end: the loop observes again and decides again."""

from __future__ import annotations

from collections.abc import Mapping

from rota.core import steps as s
from rota.core.state import AppState
from rota.ports.balancer import Balancer
from rota.ports.dns import Dns
from rota.ports.runtime import ReleaseOrder, Runtime, StartOrder


class Executor:
    def __init__(self, runtime: Runtime, balancer: Balancer, dns: Mapping[str, Dns]) -> None:
        self._runtime = runtime
        self._dns = dns
        self._balancer = balancer

    async def carry_out(self, state: AppState, step: s.Step) -> None:
        """One call on one port; nothing for the steps that only write a fact down. Raises StepFailed."""
        match step:
            case s.StartReplica():
                await self._runtime.start(_start_order(state, step))
            case s.RestartReplica():
                await self._runtime.restart(_start_order(state, step))
            case s.PrepareRelease() | s.UpdateLimits() | s.StopReplica() | s.KillReplica() | s.RemoveReplica():
                await self._on_runtime(state, step)
            case s.DeleteReleases():
                await self._runtime.forget(state.name, step.keep)
            case s.PublishRecords():
                await self._dns[step.view].publish(state.name, step.entry)
            case s.WithdrawRecords():
                await self._dns[step.view].withdraw(state.name, step.replica)
            case s.ReplicaStep():
                await self._on_server(state, step)
            case s.PrepareBackend():
                await self._balancer.prepare(step.backend, step.hosts, step.listeners)
            case s.RouteApp():
                await self._balancer.route(state.name, step.shares)
            case s.SetMaintenance():
                await self._balancer.maintain(state.name, step.on)
            case s.UnrouteApp():
                await self._balancer.unroute(state.name)
            case _:
                pass

    async def _on_runtime(self, state: AppState, step: s.Step) -> None:
        match step:
            case s.PrepareRelease():
                release = state.releases[step.release]
                await self._runtime.prepare(ReleaseOrder(state.name, release.number, release.source, release.spec))
            case s.UpdateLimits():
                await self._runtime.update_limits(step.replica, step.limits)
            case s.StopReplica():
                await self._runtime.stop(step.replica)
            case s.KillReplica():
                await self._runtime.kill(step.replica)
            case s.RemoveReplica():
                await self._runtime.remove(step.replica)

    async def _on_server(self, state: AppState, step: s.Step) -> None:
        match step:
            case s.EnableServer():
                to = step.replica, state.name, step.backend, step.address
                await self._balancer.enable(*to, step.weight, step.ports)
            case s.SetWeight():
                await self._balancer.weigh(step.replica, step.weight)
            case s.DrainServer():
                await self._balancer.drain(step.replica)
            case s.DisableServer() | s.SuspendServer():
                await self._balancer.disable(step.replica)
            case s.CutConnections():
                await self._balancer.cut(step.replica, step.leave)
            case s.RemoveServer():
                await self._balancer.remove(step.replica)


def _start_order(state: AppState, step: s.StartReplica | s.RestartReplica) -> StartOrder:
    return StartOrder(
        replica=step.replica,
        app=state.name,
        slot=step.slot,
        release=step.release,
        generation=step.generation,
        limits=step.limits,
        spec=state.releases[step.release].spec,
    )
