"""Times, counts and ends of rollouts in a person's words; pure text, printed by the commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

_VERBS = {
    "succeeded": "succeeded",
    "rolled_back": "was rolled back",
    "failed": "failed",
    "cancelled": "was cancelled",
    "paused": "is paused",
}

_FAILURES_SHOWN = 3
_ON_PAPER = frozenset({"BeginRollout", "TakeSlot", "FinishSlot", "FinishRollout"})
_STYLE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours, and where the cursor goes (ECMA-48, CSI)

_LONG = {
    "answers": ("answer under way", "answers under way"),
    "websockets": ("WebSocket", "WebSockets"),
    "tcp": ("TCP connection", "TCP connections"),
}

_STEPS = {
    "PrepareRelease": "release being made ready",
    "PrepareBackend": "routes being made",
    "StartReplica": "starting",
    "RestartReplica": "starting again in place",
    "UpdateLimits": "given new limits",
    "EnableServer": "in rotation",
    "SetWeight": "given another share",
    "PublishRecords": "named in DNS",
    "WithdrawRecords": "leaving DNS",
    "NoteWithdrawn": "out of DNS",
    "DrainServer": "draining",
    "DisableServer": "out of rotation",
    "SuspendServer": "out of rotation",
    "CutConnections": "open connections cut",
    "StopReplica": "stopping",
    "KillReplica": "killed",
    "RemoveReplica": "removed",
    "RouteApp": "requests routed anew",
    "SetMaintenance": "maintenance",
    "NoteHealth": "health",
    "NoteRefusal": "cannot be limited",
    "HoldRepair": "repair",
    "NoteOutage": "HAProxy is back",
    "OpenGap": "no replica in service",
    "CloseGap": "in service again",
    "ForgetApp": "forgotten",
}
"""The steps that a person waits for; the others are bookkeeping."""

_SAY_ALL = frozenset({"OpenGap", "CloseGap"})
"""Their reason would only say it again."""


_OF_THE_APP = {"runtime-lost": "runtime lost", "runtime-back": "runtime is back"}
"""What becomes of an app as a whole, by the reason."""


def moment(text: str | None) -> datetime | None:
    """An RFC 3339 time of the API."""
    return datetime.fromisoformat(text) if text else None


def clock(text: str | None) -> str:
    """The local time of day."""
    at = moment(text)
    return at.astimezone().strftime("%H:%M:%S") if at else "--:--:--"


def day_and_clock(text: str | None) -> str:
    at = moment(text)
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at else "-"


_ENDS = {
    "C": "broken off by the client",
    "S": "broken off by the replica",
    "SC": "no replica took it",
    "sC": "no replica took it",
    "c": "idle for too long",
    "s": "idle for too long",
    "D": "the replica went down",
    "K": "cut",
    "-": "closed",
}
"""HAProxy's termination state, its first letter unless both are here; what is left is a connection that was refused."""


def request(entry: dict[str, Any]) -> str:
    """A line of the access log."""
    again = f" after {entry['retries']} more tries" if entry["retries"] else ""
    if entry.get("protocol") == "tcp":
        return _connection(entry) + again
    took = f"{entry['total_ms']} ms" if entry["response_ms"] < 0 else f"{entry['response_ms']}/{entry['total_ms']} ms"
    asked = f"{entry['client']} {entry['method']} {entry['host']}{entry['path']}"
    return f"{day_and_clock(entry['at'])} {asked} {entry['status']} {took} {entry['replica'] or '-'}{again}"


def _connection(entry: dict[str, Any]) -> str:
    ended = _ENDS.get(entry["ended"]) or _ENDS.get(entry["ended"][:1], "refused")
    carried = f"{entry['received']:,} bytes in, {entry['sent']:,} out, {duration(entry['total_ms'] / 1000)}"
    user = f"{entry['client']} TCP {entry['port']}"
    return f"{day_and_clock(entry['at'])} {user} {carried} {entry['replica'] or '-'} {ended}"


def duration(seconds: float) -> str:
    """``350 ms``, ``4.2 s``, ``3 min 10 s``, ``2 h 5 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"


def time_left(progress: dict[str, Any] | None) -> str:
    """``about 12 s left``; empty where nobody can say."""
    seconds = (progress or {}).get("seconds_left")
    if seconds is None:
        return ""
    whole = max(1, round(seconds))
    return f"about {whole} s left" if whole < 60 else f"about {duration(whole)} left"


def elapsed(since: str | None, until: str | None) -> str:
    start, end = moment(since), moment(until)
    return duration((end - start).total_seconds()) if start and end else "-"


def limits(view: dict[str, Any] | None) -> str:
    view = view or {}
    memory, cpus = view.get("memory"), view.get("cpus")
    parts = [f"{memory / 2**20:g} MiB"] if memory is not None else []
    parts += [f"{cpus:g} CPU"] if cpus is not None else []
    if not parts:
        return "none"
    return ", ".join(parts) + ("" if view.get("enforced", True) else " (not enforced)")


def memory(count: float) -> str:
    return f"{count / 2**20:.1f} MiB"


def percent(value: float) -> str:
    """Of one core."""
    return f"{value:.1f} %"


def share(used: float | None, limit: float | None, written: Callable[[float], str]) -> str:
    """``12.3 MiB of 256.0 MiB``, without the second where there is no limit."""
    if used is None:
        return ""
    return written(used) if limit is None else f"{written(used)} of {written(limit)}"


def event(view: dict[str, Any]) -> str | None:
    """``12:00:01 hello-4 in rotation: ready and stable``; None for a step that is only bookkeeping."""
    said = _said(view)
    if said is None:
        return None
    why = _why(view).partition("\n")[0]
    who = view.get("replica") or view.get("rollout") or view.get("app")
    return f"{clock(view.get('at'))} {who} {said}" + (f": {why}" if why else "")


def _why(view: dict[str, Any]) -> str:
    if view.get("phase") == "rolled_back" or view.get("step") in _SAY_ALL:
        return ""  # the first was said when it turned back, and is once more at the end
    if view["kind"] == "app":
        return str(view.get("detail") or "")
    why = view.get("detail") if view["kind"] != "failure" else None
    why = str(why or view.get("reason") or "")
    return "" if why == view.get("phase") else why


def _said(view: dict[str, Any]) -> str | None:
    step = str(view.get("step") or "")
    if view["kind"] == "step":
        return _STEPS.get(step)
    if view["kind"] == "step-failed":
        return f"{step} failed and is tried again"
    if view["kind"] == "preparing":
        return _STEPS["PrepareRelease"]
    if view["kind"] == "failure":
        return "failed"
    if view["kind"] == "app":
        return _OF_THE_APP.get(str(view.get("reason")))
    phase = str(view.get("phase") or "")
    return None if phase in {"", "pending"} else phase.replace("_", " ")


def step(view: dict[str, Any], rollout: str) -> str | None:
    """A step of a rollout's own list, in the words of its event."""
    kind = "failure" if view["step"] == "FailReplica" else "step"
    return event({"kind": kind, "rollout": rollout, **view})


def planned(view: dict[str, Any]) -> str | None:
    """A step of a plan, in the same words; None for one that is only bookkeeping."""
    said = _STEPS.get(view["step"])
    return None if said is None else f"{view['replica']} {said}" if view["replica"] else said


def steered(verb: str, rollout: dict[str, Any]) -> str:
    """What follows of a person's word to a rollout, where that is not yet what the rollout's phase says."""
    text = f"{rollout['id']} {rollout['kind']}"
    phase = rollout["phase"].replace("_", " ")
    if verb == "pause" and phase != "paused":
        return f"{text} pausing: the hand-off under way is finished first"
    if verb == "skip":
        return f"{text} leaves out {', '.join(f'slot {slot}' for slot in rollout['skipped'])}"
    if verb == "set":
        policy = rollout["policy"]
        return f"{text} goes on {policy['parallelism']} at a time, {duration(policy['delay'])} apart"
    if verb == "abort" and phase != "cancelled":
        release = rollout.get("from_release")
        return f"{text} going back to release {release}" if release else f"{text} being aborted"
    return f"{text} {phase}"


def scaled_beside(app: str, count: int, rollout: dict[str, Any], *, waits: bool) -> str:
    """A scale during a rollout is none of its own."""
    until = "; Ctrl-C waits no longer" if waits else ""
    return f"{app} is to have {count}; {rollout['id']} {rollout['kind']} goes on beside{until}"


def scaled(app: str, count: int, rollout: dict[str, Any]) -> str:
    """The scale has its count, and the rollout that it found goes on."""
    has = "1 replica" if count == 1 else f"{count} replicas"
    return f"{app} has {has}; {rollout['id']} {rollout['kind']} goes on"


def ending(rollout: dict[str, Any]) -> list[str]:
    """The receipt for people, and after a failure what failed, why, and what serves now."""
    if _changed_nothing(rollout):
        return [f"{rollout['id']} {rollout['kind']}: all is as it is to be already, nothing was changed"]
    return [_headline(rollout), *_failures(rollout), *receipt(rollout.get("receipt")), *_serving(rollout)]


def receipt(view: dict[str, Any] | None) -> list[str]:
    if not view:
        return []
    lines = [
        f"{view['failed']:,} failed of {came(view)} "
        f"(retried {view['retried']:,}, redispatched {view['redispatched']:,}, cut {view['cut']:,})"
    ]
    if view.get("app_errors"):
        lines.append(f"{view['app_errors']:,} answered with an error by the app itself")
    releases = view.get("by_release") or {}
    if releases:
        lines.append(", ".join(f"release {name}: {count:,}" for name, count in releases.items()))
    lines += [_gap(gap) for gap in view.get("gaps") or []]
    if "deviations" in view:
        lines.append("; ".join(view["deviations"]) or "as planned")
    if not view["complete"]:
        lines.append("incomplete: the load balancer was lost for a time, so some requests may not be counted")
    return lines


def came(view: dict[str, Any]) -> str:
    """``1,204 requests``, ``1,204 requests and 12 TCP connections``."""
    tcp = view.get("connections", 0)
    return f"{view['requests']:,} requests" + (f" and {tcp:,} {_LONG['tcp'][tcp > 1]}" if tcp else "")


def served(requests: int, tcp: int) -> str:
    """The same for a column."""
    return f"{requests:,} + {tcp:,} TCP" if tcp else f"{requests:,}"


def _headline(rollout: dict[str, Any]) -> str:
    phase = rollout["phase"]
    text = f"{rollout['id']} {rollout['kind']} {_VERBS.get(phase, phase)}"
    if phase == "succeeded":
        return f"{text} in {elapsed(rollout['started_at'], rollout['finished_at'])}"
    reason = rollout.get("reason")
    return f"{text}: {reason}" if reason and reason != phase else text


def _changed_nothing(rollout: dict[str, Any]) -> bool:
    """A view without steps does not tell."""
    steps = {step["step"] for step in rollout.get("steps") or []}
    return rollout["phase"] == "succeeded" and bool(steps) and steps <= _ON_PAPER


def _failures(rollout: dict[str, Any]) -> list[str]:
    """Why, in a sentence; then the last failures, the very last with what the replica wrote."""
    if rollout["phase"] == "succeeded":
        return []
    detail, *told = str(rollout.get("detail") or "").splitlines() or [""]
    failures = (rollout.get("failures") or [])[-_FAILURES_SHOWN:]
    lines = [f"{failure['replica']} {failure['reason']}: {failure['detail']}" for failure in failures]
    log = failures[-1].get("log") or [] if failures else []
    said_again = any(failure["detail"] and failure["detail"] in detail for failure in failures)
    if said_again or failures:
        told = []  # the replicas' own lines tell more
    if said_again:
        detail = ""
    return [*([detail] if detail else []), *_output(told), *lines, *_output(log)]


def _output(lines: Iterable[str]) -> list[str]:
    """What an app wrote, without what a terminal would take for an order to itself."""
    unstyled = (_STYLE.sub("", line) for line in lines)
    return ["  | " + "".join(mark if mark.isprintable() or mark == "\t" else "?" for mark in line) for line in unstyled]


def _serving(rollout: dict[str, Any]) -> list[str]:
    phase, release = rollout["phase"], rollout.get("from_release")
    if phase == "paused":
        return [f"go on with: rota rollout resume {rollout['id']}   or back with: rota rollout abort {rollout['id']}"]
    if phase in ("rolled_back", "cancelled") and release:
        return [f"release {release} serves"]
    if phase == "succeeded" and rollout["kind"] == "rollback":
        return [f"release {rollout['to_release']} serves now"]
    kept = rollout["policy"].get("keep_old") if phase == "succeeded" else None
    if kept and release not in (None, rollout["to_release"]):
        return [f"release {release} is kept for {duration(kept)}; back to it at once: rota rollback {rollout['app']}"]
    return []


def _gap(gap: dict[str, Any]) -> str:
    seconds = gap.get("seconds")
    length = duration(seconds) if seconds is not None else "a time that goes on"
    return f"{gap.get('reason') or 'no replica in service'} for {length}{_lost_in(gap)}"


def _lost_in(gap: dict[str, Any]) -> str:
    """Of HAProxy's own outage, as far as it is known."""
    look, meanwhile = gap.get("last_look"), gap.get("came_meanwhile")
    if not look:
        return ""
    said = f"; {look['open']:,} open {duration(look['seconds_before'])} before were cut off"
    return f"{said}, about {came(meanwhile)} came meanwhile (estimated)" if meanwhile else said


def connections(open_now: int, kinds: Mapping[str, int]) -> str:
    """What is open to a replica: the sum, and what of it is no plain request."""
    long = [f"{kinds[kind]:,} {names[kinds[kind] > 1]}" for kind, names in _LONG.items() if kinds[kind]]
    return f"{open_now:,} ({', '.join(long)})" if long else f"{open_now:,}"


def old_processes(count: int, let_go: int) -> list[str]:
    """HAProxy's processes from before its last reload."""
    processes = "1 old HAProxy process still holds" if count == 1 else f"{count} old HAProxy processes still hold"
    said = [f"{processes} connections"] if count else []
    return [*said, f"{let_go:,} long connections ended with an old HAProxy process"] if let_go else said
