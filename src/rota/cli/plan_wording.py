"""A plan in a person's words: what happens when, who serves meanwhile, what it takes; printed by ``rota plan``."""

from __future__ import annotations

from typing import Any

from rota.cli import wording

_WIDEST = 60  # of a bar
_ENDLESS = "no end in sight"
_PASSING = 0.05  # seconds: while an old replica goes, the new one serves already

_NEEDS = {  # the durations that are an app's own; those of the server's calls are milliseconds
    "boot": {"StartReplica", "RestartReplica"},
    "drain": {"DisableServer"},
    "stop": {"StopReplica"},
    "prepare": {"PrepareRelease"},
    "reload": {"PrepareBackend"},
}


def plan(view: dict[str, Any]) -> list[str]:
    told = [*_peak(view), *_open(view), *_dns(view), *_durations(view)]
    return [_headline(view), view["meaning"], "", *_steps(view), "", *_capacity(view), *told]


def _headline(view: dict[str, Any]) -> str:
    before, after = view["from_release"], view["to_release"]
    release = f"release {after}" if before in (None, after) else f"release {before} to {after}"
    length = f"about {wording.duration(view['predicted_seconds'])}" if view["ends"] else _ENDLESS
    return f"{view['app']} {view['kind']}, {release}: {view['change']}, {length}"


def _steps(view: dict[str, Any]) -> list[str]:
    said = [(step["after"], wording.planned(step)) for step in view["steps"]]
    lines = [_at(after, words) for after, words in said if words is not None]
    end = str(view["ends"] or _ENDLESS).replace("_", " ")
    return [*lines, _at(view["predicted_seconds"], end)]


def _at(after: float, text: str) -> str:
    return f"{after:8.2f} s  {text}"


def _capacity(view: dict[str, Any]) -> list[str]:
    """A bar for each number of replicas that serve for some time, and always for the first and the fewest."""
    curve, least = view["capacity"]["curve"], view["capacity"]["least"]
    ends = [*(point["after"] for point in curve[1:]), None]
    shown: list[tuple[float, int]] = []
    for point, end in zip(curve, ends, strict=True):
        serving, passing = point["serving"], end is not None and end - point["after"] < _PASSING
        if not shown or (serving != shown[-1][1] and (not passing or serving == least)):
            shown.append((point["after"], serving))
    width = min(max(serving for _, serving in shown), _WIDEST)
    return [_at(after, f"{'#' * min(serving, _WIDEST):{width}}  {serving} serving") for after, serving in shown]


def _peak(view: dict[str, Any]) -> list[str]:
    """Against what the machine has beside what it promised to other apps."""
    peak, free = view["peak"], view["peak"]["free"]
    told = []
    if peak["memory"] is not None:
        told.append(f"{peak['memory'] / 2**20:,.0f} MiB of {free['memory'] / 2**20:,.0f} free")
    if peak["cpus"] is not None:
        told.append(f"{peak['cpus']:g} CPU of {free['cpus']:g} free")
    limits = ", ".join(told) or "no limits"
    return ["", f"at most {peak['replicas']} replicas at once: {limits}"]


def _open(view: dict[str, Any]) -> list[str]:
    leaving = [entry for entry in view["open"] if entry["open"]]
    if not leaving:
        return ["nothing is open now at the replicas that will leave"] if view["open"] else []
    counts = ", ".join(f"{entry['replica']} {entry['open']}" for entry in leaving)
    timeout = wording.duration(view["drain_timeout"])
    return [f"open now: {counts}; what is still open {timeout} after its replica's turn began is cut"]


def _dns(view: dict[str, Any]) -> list[str]:
    return [view["dns"]["meaning"]] if view["dns"] else []


def _durations(view: dict[str, Any]) -> list[str]:
    """What the times were reckoned from, as far as this plan needs it."""
    taken = {step["step"] for step in view["steps"]}
    needed = [entry for name, steps in _NEEDS.items() if steps & taken for entry in _lengths(view, name)]
    told = [f"{name} {wording.duration(one['seconds'])} (of {one['of']})" for name, one in needed if one["of"]]
    guessed = [f"{name} {wording.duration(one['seconds'])}" for name, one in needed if not one["of"]]
    return [
        *([f"measured: {', '.join(told)}"] if told else []),
        *([f"not measured yet, guessed: {', '.join(guessed)}"] if guessed else []),
        *([view["coarse"]] if view.get("coarse") else []),
    ]


def _lengths(view: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    found = view["durations"][name]
    if "seconds" in found:
        return [(name, found)]
    return [(name if number == "1" else f"{name} of {number} at once", one) for number, one in found.items()]
