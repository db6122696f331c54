"""Views: an app, a replica, a rollout and an event as the API shows them (JSON-ready, keys fixed by design.md).

Pure functions; called by the status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rota.core import repair
from rota.core.events import Event, EventKind
from rota.core.member import Member, ReplicaPhase
from rota.core.observation import Gap, LastLook, Observation, ObservedBalancer
from rota.core.outage import came_meanwhile
from rota.core.promise import deviations
from rota.core.receipt import BALANCER_DOWN, Receipt, receipt
from rota.core.redaction import shown
from rota.core.rollout import Failure, Phase, Rollout
from rota.core.situation import Draft, Situation
from rota.core.spec import AppSpec, Limits
from rota.core.state import AppState, Release
from rota.core.tcp import Listener
from rota.engine.dns_view import dns_state

View = dict[str, Any]


def moment(at: float | None) -> str | None:
    """RFC 3339 in UTC with milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def situation(state: AppState, observed: Observation | None, now: float) -> Situation:
    return Situation(state, observed or Observation(), now, Draft(frozenset()))


def with_open(observed: Observation | None, now: ObservedBalancer | None) -> Observation | None:
    """With what is open to each server ``now``, a later look at the balancer; all else as it was observed together."""
    if observed is None or now is None:
        return observed
    servers = {
        name: replace(server, open=now.servers[name].open) if name in now.servers else server
        for name, server in observed.balancer.servers.items()
    }
    return replace(observed, balancer=replace(observed.balancer, servers=servers))


def members(here: Situation) -> list[Member]:
    return sorted(here.members.values(), key=lambda member: (member.record.slot, member.number))


def app_view(state: AppState, observed: Observation | None, now: float, urls: list[str]) -> View:
    shown = members(situation(state, observed, now))
    running = state.recorded.running_rollout
    release = state.releases.get(state.desired.current.release)
    return {
        "name": state.name,
        "phase": _app_phase(state),
        "replicas_wanted": state.desired.replicas,
        "ready": sum(member.serving for member in shown),
        "release": state.desired.current.release or None,
        "hosts": list(release.spec.hosts) if release else [],
        "urls": urls,
        "listeners": [listener_view(listener) for listener in release.spec.listeners] if release else [],
        "limits": limits_view(state.desired.current.limits),
        "rollout": running.id if running else None,
        "maintenance": state.desired.maintenance,
        "maintenance_in_force": observed is not None and observed.balancer.maintenance,
    }


def listener_view(listener: Listener) -> View:
    return {"listen": listener.place, "sni": list(listener.names), "accept_proxy": listener.behind_proxy}


def request_view(entry: Mapping[str, Any]) -> View:
    return {**entry, "at": moment(entry["at"])}


def replica_view(member: Member, here: Situation) -> View:
    seen, record = member.seen, member.record
    failure = record.failure
    ready = record.enabled_at if member.phase is ReplicaPhase.READY else None
    limits = limits_view(seen.limits) if seen else limits_view(Limits())
    return {
        "id": member.id,
        "slot": record.slot,
        "release": record.release,
        "generation": record.generation,
        "node": seen.node if seen else "local",
        "phase": member.phase.value,
        "reason": failure.detail
        if failure
        else repair.condition(here, member) or _oddities(member) or member.ready.detail,
        "address": str(seen.address) if seen and seen.address else None,
        "started_at": moment(seen.started_at if seen else record.started_at),
        "ready_since": moment(ready),
        "restarts": seen.restarts if seen else 0,
        "limits": {**limits, "enforced": seen.limits_enforced if seen else False},
        "open": (member.server.open if member.server else 0) + here.observed.direct.get(member.id, 0),
        "weight": member.server.weight if member.server else None,
        "dns": dns_state(member.id, record, here.observed.dns),
        "log": list(failure.log) if failure else [],
    }


def _oddities(member: Member) -> str:
    return "; ".join(member.seen.oddities) if member.seen is not None else ""


def release_view(release: Release, state: AppState) -> View:
    return {
        "number": release.number,
        "created_at": moment(release.created_at),
        "current": release.number == state.desired.current.release,
        "given_up": release.given_up,
        "source": release.source,
        "image": release.spec.image.reference if release.spec.image is not None else None,
        "command": list(release.spec.command),
        "rollout": release.rollout,
    }


def spec_view(spec: AppSpec) -> View:
    """The file. Values of environment variables may be secrets, a registry's password is one, and addresses of notices
    hold some: shown are their names alone."""
    view = spec.model_dump(mode="json")
    view["notify"] = [shown(url) for url in view.get("notify", [])]
    view["env"] = [{"name": entry["name"], "value": "(hidden)"} for entry in view.get("env", [])]
    for page in view.get("error_pages", []):
        page.pop("text", None)  # up to 12 kB that nobody asked for
    registry = (view.get("image") or {}).get("registry") or {}
    if registry.get("password"):
        registry["password"] = "(hidden)"  # noqa: S105
    return view


def rollout_view(
    rollout: Rollout,
    state: AppState | None,
    observed: Observation | None,
    events: Sequence[Event] = (),
    seconds_left: float | None = None,
) -> View:
    """``events`` are its newest, from which the steps are; a list of rollouts goes without."""
    live = observed.balancer.rows if observed and not rollout.phase.ended else ()
    outages = _outages(rollout, observed) if not rollout.phase.ended else ()
    counted = receipt(rollout, live, outages)
    return {
        "id": rollout.id,
        "app": rollout.app,
        "kind": rollout.kind.value,
        "phase": rollout.phase.value,
        "reason": rollout.cause.value if rollout.cause else "",
        "detail": rollout.detail,
        "from_release": rollout.from_release,
        "to_release": rollout.to_release,
        "policy": policy_view(rollout),
        "started_at": moment(rollout.started_at or rollout.created_at),
        "finished_at": moment(rollout.finished_at),
        "skipped": sorted(rollout.skipped),
        "progress": progress_view(rollout, state, seconds_left),
        "failures": [failure_view(failure) for failure in rollout.failures],
        "steps": [step_view(event) for event in events if _is_step(event)],
        "steps_cut": not (events and _is_first(events[0])),
        "receipt": receipt_view(counted) | _kept_promise(rollout),
    }


def progress_view(rollout: Rollout, state: AppState | None, seconds_left: float | None) -> View:
    """Slots done, and the time to its end, unless it has ended or nobody can say."""
    slots = state.desired.replicas if state else len(rollout.taken)
    done = sum(taken.finished_at is not None for taken in rollout.taken.values())
    return {"done": done, "of": slots, "seconds_left": None if seconds_left is None else round(seconds_left, 1)}


def policy_view(rollout: Rollout) -> View:
    policy = rollout.policy
    return {
        "strategy": policy.strategy.value,
        "mode": policy.mode.value,
        "parallelism": policy.parallelism,
        "order": policy.order.value,
        "delay": policy.delay,
        "min_available": policy.min_available,
        "failure_action": policy.failure_action.value,
        "monitor": policy.monitor,
        "max_failure_ratio": policy.max_failure_ratio,
        "progress_deadline": policy.progress_deadline,
        "keep_old": policy.keep_old,
        "remove_from_dns": policy.remove_from_dns,
    }


def failure_view(failure: Failure) -> View:
    return {
        "replica": failure.replica,
        "slot": failure.slot,
        "reason": failure.cause.value,
        "detail": failure.detail,
        "log": list(failure.log),
        "at": moment(failure.at),
    }


def step_view(event: Event) -> View:
    return {"at": moment(event.at), "step": event.step, "replica": event.replica, "reason": event.reason}


def receipt_view(counted: Receipt) -> View:
    totals = counted.totals
    return {
        "requests": totals.requests,
        "connections": totals.connections,
        "retried": totals.retried,
        "redispatched": totals.redispatched,
        "cut": counted.cut,
        "failed": totals.failed,
        "app_errors": totals.app_errors,
        "by_release": {str(release): count for release, count in sorted(counted.by_release.items())},
        "complete": counted.complete,
        "gaps": [gap_view(gap) for gap in counted.gaps],
    }


def gap_view(gap: Gap) -> View:
    seconds = round(gap.until - gap.since, 3) if gap.until is not None else None
    came = came_meanwhile(gap)
    return {
        "since": moment(gap.since),
        "until": moment(gap.until),
        "seconds": seconds,
        "reason": gap.reason,
        "last_look": _look_view(gap.before) if gap.before is not None else None,
        "came_meanwhile": dict(zip(("requests", "connections"), came, strict=True)) if came is not None else None,
    }


def _look_view(look: LastLook) -> View:
    return {
        "seconds_before": round(look.ago, 3),
        "open": look.open,
        "requests_per_second": look.requests,
        "connections_per_second": look.connections,
    }


def event_view(event: Event) -> View:
    return {
        "seq": event.seq,
        "at": moment(event.at),
        "app": event.app,
        "rollout": event.rollout,
        "kind": event.kind.value,
        "step": event.step,
        "replica": event.replica,
        "phase": event.phase,
        "reason": event.reason,
        "detail": event.detail,
    }


def limits_view(limits: Limits) -> View:
    return {"memory": limits.memory, "cpus": limits.cpus}


def _app_phase(state: AppState) -> str:
    if state.desired.removed:
        return "removing"
    return "running" if state.desired.running else "stopped"


def _is_step(event: Event) -> bool:
    return event.step is not None and event.kind is not EventKind.STEP_FAILED


def _is_first(event: Event) -> bool:
    """Whether a rollout began with this event: of many only the newest are shown, and old ones are dropped."""
    return event.kind is EventKind.PHASE and event.phase == Phase.PENDING.value


def _kept_promise(rollout: Rollout) -> View:
    """Of a rollout that was ordered with a plan, once it has ended: what came otherwise."""
    if rollout.promise is None or not rollout.phase.ended:
        return {}
    return {"deviations": list(deviations(rollout.promise))}


def _outages(rollout: Rollout, observed: Observation | None) -> tuple[Gap, ...]:
    since = rollout.started_at or rollout.created_at
    gaps = observed.balancer.gaps if observed else ()
    return tuple(replace(gap, reason=BALANCER_DOWN) for gap in gaps if gap.until is None or gap.until > since)
