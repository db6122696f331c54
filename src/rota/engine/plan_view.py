"""A plan as the API shows it and as a file keeps it (JSON-ready; keys fixed by design.md and docs/guide/plans.md).

Pure functions; called by the engine's face."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rota.core import steps as s
from rota.core.capacity import Amount
from rota.core.forecast import CurvePoint, Planned
from rota.core.names import ReplicaId
from rota.core.observation import Open
from rota.core.order import Order
from rota.core.plan import Plan
from rota.core.promise import in_words
from rota.engine.views import View, policy_view


def plan_view(plan: Plan, order: Order, free: Amount, kinds: Mapping[ReplicaId, Open]) -> View:
    """``order`` is shown without the file, which may hold secrets; ``free`` is what the machine has for the app,
    ``kinds`` of what kind is what is open at each replica."""
    rollout, forecast = plan.rollout, plan.forecast
    return {
        "app": rollout.app,
        "kind": rollout.kind.value,
        "from_release": rollout.from_release,
        "to_release": rollout.to_release,
        "policy": policy_view(rollout),
        "change": plan.change.value,
        "meaning": plan.meaning,
        "ends": None if forecast.cut else forecast.phase.value,
        "predicted_seconds": _seconds(forecast.seconds),
        "outage_seconds": _seconds(forecast.outage),
        "capacity": {
            "least": forecast.least,
            "most": forecast.most,
            "curve": [_capacity(point) for point in forecast.curve],
        },
        "peak": {
            "replicas": forecast.peak_replicas,
            "memory": forecast.peak_memory,
            "cpus": forecast.peak_cpus,
            "free": {"memory": free.memory, "cpus": free.cpus},
        },
        "open": [
            {"replica": replica, "open": count, "connections": asdict(kinds.get(replica, Open()))}
            for replica, count in sorted(plan.leaving.items())
        ],
        "drain_timeout": plan.drain_timeout,
        "dns": {"ttl": _seconds(plan.ttl), "meaning": plan.dns} if plan.ttl else None,
        "coarse": plan.coarse or None,
        "durations": plan.durations.model_dump(mode="json", exclude_none=True),
        "steps": [_step(planned) for planned in plan.steps],
        "order": order.model_dump(mode="json", exclude_unset=True, exclude={"spec", "plan"}),
        "basis": dict(plan.basis),
    }


def _capacity(point: CurvePoint) -> View:
    return {"after": _seconds(point.after), "serving": point.serving, "running": point.running}


def _step(planned: Planned) -> View:
    step = planned.step
    about: dict[str, Any] = {"replica": step.replica if isinstance(step, s.ReplicaStep) else None}
    if isinstance(step, s.TakeSlot | s.FinishSlot | s.StartReplica | s.RestartReplica):
        about["slot"] = step.slot
    return {
        "after": _seconds(planned.after),
        "step": type(step).__name__,
        **about,
        "reason": step.reason,
        "words": in_words(step),
    }


def _seconds(value: float) -> float:
    return round(value, 4)
