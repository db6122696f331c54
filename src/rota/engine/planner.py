"""The planner: what an order would do, found out and not done; asked by the engine's face.

A plan that comes back with its order is held against one made now."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from rota.core.durations import Durations
from rota.core.errors import Missing
from rota.core.observation import Observation, ObservedBalancer
from rota.core.order import Order, SavedPlan
from rota.core.plan import Plan, plan
from rota.core.promise import check, promise
from rota.core.state import AppState
from rota.engine.measuring import Measuring
from rota.engine.reconciler import Reconciler
from rota.ports.balancer import Balancer
from rota.ports.clock import Clock


class Planner:
    def __init__(self, measuring: Measuring, balancer: Balancer, clock: Clock) -> None:
        self._measuring = measuring
        self._balancer = balancer
        self._clock = clock

    async def plan(self, app: Reconciler | None, begun: AppState) -> Plan:
        """``begun`` is the state that the order would leave (core.begin); ``app`` None is one that is not there yet.
        Raises Missing while HAProxy does not answer, StepFailed when the runtime does not."""
        observed = await self._look(app)
        return await self._made(begun, observed, await self._measuring.of(begun, observed.balancer))

    async def check(self, app: Reconciler | None, begun: AppState, saved: SavedPlan) -> None:
        """Raises StalePlan unless the saved plan still holds, and what ``plan`` raises."""
        now = await self._made(begun, await self._look(app), saved.durations)
        check(saved, now.basis, now.words)

    async def _made(self, begun: AppState, observed: Observation, lengths: Durations) -> Plan:
        # Beside the loops: a forecast of many replicas takes its time.
        return await asyncio.to_thread(plan, begun, observed, lengths, self._clock.now())

    async def _look(self, app: Reconciler | None) -> Observation:
        observed = await app.look() if app is not None else await self._nothing()
        if observed.balancer.process is None:
            raise Missing("HAProxy does not answer: what serves now, and so what would happen, cannot be said")
        return observed

    async def _nothing(self) -> Observation:
        process = await self._balancer.answering()
        return Observation(balancer=ObservedBalancer(process=process, reloads=self._balancer.reloads()))


def promised(state: AppState, order: Order) -> AppState:
    """The state whose rollout remembers the plan that it was ordered with, if there is one."""
    rollout = state.recorded.rollout
    if order.plan is None or rollout is None:
        return state
    remembering = replace(rollout, promise=promise(order.plan.steps))
    return replace(state, recorded=replace(state.recorded, rollout=remembering))
