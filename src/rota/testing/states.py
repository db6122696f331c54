"""An app in the middle of a rollout, every field filled in; for tests and measurements of what keeps states."""

from __future__ import annotations

from dataclasses import replace

from rota.core.events import Event, EventKind
from rota.core.names import replica_id, rollout_id
from rota.core.observation import Counters, Gap, LastLook, Row
from rota.core.policy import Policy
from rota.core.rollout import Cause, Failure, Kind, Phase, Promise, Rollout, SlotTarget, Taken
from rota.core.spec import AppSpec, FailureAction, Limits, Mode, Order
from rota.core.state import AppState, Desired, Recorded, Release, ReplicaRecord, SlotRecord, Standby

BEGAN = 1_700_000_000.123456


def app_in_rollout(app: str = "hello", *, replicas: int = 5, tick: int = 0, generation: int = 7) -> AppState:
    """The ``tick``-th state of one and the same rollout; each differs from the one before."""
    slots = range(1, replicas + 1)
    old, new = _target(1), _target(2)
    return AppState(
        name=app,
        desired=Desired(
            replicas,
            old,
            {slot: new for slot in slots if slot < 3},
            running=False,
            remove_stopped=False,
            removed=True,
            standby=Standby(old, BEGAN + 600),
        ),
        recorded=Recorded(
            replicas={replica_id(app, slot): _replica(app, slot, tick) for slot in slots},
            slots={slot: SlotRecord(attempts=slot, next_try=BEGAN + tick, alerted=True) for slot in slots},
            prepared_at={1: BEGAN, 2: BEGAN + 0.1},
            next_replica=replicas + 1,
            next_generation=generation + 1,
            next_release=3,
            repair_held_at=BEGAN + tick,
            outage=_outage(),
            rollout=rollout(app, replicas=replicas, tick=tick, generation=generation),
        ),
        releases={number: release(app, number) for number in (1, 2)},
    )


def _outage() -> Gap:
    return Gap(BEGAN, BEGAN + 1.5, "HAProxy was gone", LastLook(0.2, 3, 40, 5))


def rollout(app: str = "hello", *, replicas: int = 5, tick: int = 0, generation: int = 7) -> Rollout:
    slots = range(1, replicas + 1)
    rows = {row.key: row for row in (_row(app, slot, tick) for slot in slots)}
    return Rollout(
        id=rollout_id(app, generation),
        app=app,
        kind=Kind.DEPLOY,
        generation=generation,
        policy=Policy(
            Mode.SEQUENTIAL,
            2,
            Order.STOP_FIRST,
            30.0,
            4,
            FailureAction.PAUSE,
            10.5,
            0.25,
            600.0,
            barrier=True,
            attempts=3,
        ),
        created_at=BEGAN,
        way_back=Policy(
            Mode.SIMULTANEOUS,
            replicas,
            Order.STOP_FIRST,
            0.0,
            0,
            FailureAction.CONTINUE,
            1.5,
            0.0,
            60.0,
            switch=True,
            keep_old=600.0,
        ),
        target=_target(2),
        before={slot: _target(1) for slot in slots},
        before_current=_target(1),
        fresh=True,
        from_release=1,
        to_release=2,
        phase=Phase.PROGRESSING,
        back=True,
        pause_asked=True,
        abort_asked=True,
        cause=Cause.UNHEALTHY,
        detail="two lines\nand “quotes”, \x00 and \U0001f980",
        taken={slot: Taken(BEGAN, BEGAN + slot, back=True, failures=1) for slot in slots if slot < 3},
        skipped=frozenset({4}),
        failures=(_failure(app, 1),),
        progress_at=BEGAN + tick,
        baseline=rows,
        rows=rows,
        releases={replica_id(app, slot): 2 for slot in slots},
        promise=Promise({"StartReplica hello-2": 2}, beyond=("FailReplica hello-1",), more=1),
        next_replica=replicas + 1,
        gaps=(_outage(), replace(_outage(), since=BEGAN + 2, until=None)),
        cut=tick + 1,
        started_at=BEGAN + 0.5,
        finished_at=BEGAN + 99.9,
    )


def release(app: str, number: int) -> Release:
    spec = AppSpec.model_validate(
        {
            "name": app,
            "replicas": 5,
            "domains": [{"domain": "example.org"}, {"domain": "www.example.org"}],
            "health_check": {"path": "/healthz", "interval": "1s"},
            "command": ["python3", "app.py", "--port", "$PORT"],
            "env": [{"name": f"SETTING_{count}", "value": "ü" * 20} for count in range(10)],
            "resources": {"cloudlets": 4},
            "rollout": {"parallelism": "25%", "order": "start-first", "delay": None},
        }
    )
    return Release(number, spec, "0" * 63 + str(number), BEGAN, rollout_id(app, number))


def events(app: str = "hello", *, tick: int = 0, generation: int = 7) -> tuple[Event, ...]:
    """Three events, as a step with a change of phase gives them."""
    order, at = rollout_id(app, generation), BEGAN + tick
    return (
        Event(at, app, EventKind.STEP, order, "StartReplica", replica_id(app, 1), reason=f"the {tick}th"),
        Event(at, app, EventKind.FAILURE, order, "FailReplica", replica_id(app, 1), detail="last\nlines"),
        Event(at, app, EventKind.PHASE, order, phase="progressing"),
    )


def _target(number: int) -> SlotTarget:
    return SlotTarget(number, number + 3, Limits(memory=256 * 2**20, cpus=0.1 + 0.2), colour=number, weights=((1, 50),))


def _replica(app: str, slot: int, tick: int) -> ReplicaRecord:
    at = BEGAN + tick
    return ReplicaRecord(
        *(slot, 2, 7, BEGAN, at, at + 0.1, at + 0.15, at + 0.2, at + 0.3, at + 0.4),
        run_before="boot/123/456",
        unhealthy_since=at + 0.5,
        withdraw_began_at=at + 0.05,
        withdrawn_at=at + 0.07,
        failure=_failure(app, slot),
        colour=1,
        refused_limits=Limits(memory=64 * 2**20),
        weighed_at=at + 0.6,
    )


def _failure(app: str, slot: int) -> Failure:
    return Failure(replica_id(app, slot), slot, Cause.CRASHED, "exit code 1", BEGAN, ("Traceback:", "  boom"))


def _row(app: str, slot: int, tick: int) -> Row:
    replica = replica_id(app, slot)
    return Row("123/456", replica, app, Counters(1000 + tick, 1, 2, 3, 4), replica)
