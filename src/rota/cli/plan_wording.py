"""A plan in a person's words: what happens when, who serves meanwhile, what it takes; printed by ``rota plan``."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from rota.cli import wording

_WIDEST = 60  # of a bar
_ENDLESS = "no end in sight"
_MOST_STEPS, _FIRST_STEPS, _LAST_STEPS = 60, 30, 10
_FEW = 3
_MOST_BARS = 12
_PASSING = 0.05  # seconds: while an old replica goes, the new one serves already

_Said = tuple[str, str | None, str]  # when, about which replica, the words

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
    said = [(f"{step['after']:.2f}", step["replica"], wording.planned(step)) for step in view["steps"]]
    told = [(after, replica, words) for after, replica, words in said if words is not None]
    lines = [
        line for (after, _), alike in groupby(told, _moment_and_kind) for line in _lines(float(after), list(alike))
    ]
    if len(lines) > _MOST_STEPS:
        left_out = len(lines) - _FIRST_STEPS - _LAST_STEPS
        more = f"{'...':>10}  {left_out} more steps of the same kinds; all of them: --json"
        lines = [*lines[:_FIRST_STEPS], more, *lines[-_LAST_STEPS:]]
    end = str(view["ends"] or _ENDLESS).replace("_", " ")
    return [*lines, _at(view["predicted_seconds"], end)]


def _moment_and_kind(step: _Said) -> tuple[str, str]:
    after, replica, words = step
    return after, words.removeprefix(replica or "")


def _lines(after: float, alike: list[_Said]) -> list[str]:
    """What happens at one moment to more replicas than can be read in passing is one line."""
    if len(alike) <= _FEW:
        return [_at(after, words) for _, _, words in alike]
    (_, first, words), last = alike[0], alike[-1][1]
    return [_at(after, f"{len(alike)} replicas{words.removeprefix(first or '')}: {first} to {last}")]


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
    shown = _thinned(shown, least)
    width = min(max(serving for _, serving in shown), _WIDEST)
    return [_at(after, f"{'#' * min(serving, _WIDEST):{width}}  {serving} serving") for after, serving in shown]


def _thinned(shown: list[tuple[float, int]], least: int) -> list[tuple[float, int]]:
    """Of more changes than can be taken in some, with the first, the last, and when the fewest serve."""
    if len(shown) <= _MOST_BARS:
        return shown
    every = math.ceil(len(shown) / (_MOST_BARS - 3))
    fewest = next(number for number, (_, serving) in enumerate(shown) if serving == least)
    kept = [shown[number] for number in sorted({*range(0, len(shown), every), fewest, len(shown) - 1})]
    return [bar for before, bar in zip([None, *kept], kept, strict=False) if before is None or before[1] != bar[1]]


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
    counts = ", ".join(
        f"{entry['replica']} {wording.connections(entry['open'], entry['connections'])}" for entry in leaving
    )
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
