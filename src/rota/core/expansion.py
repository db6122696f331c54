"""``${NAME}`` in the values of an app's environment, filled in from its other values; used by core.specfile.

Nothing of the machine's own environment takes part: the same file gives the same release everywhere."""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

MAX_VALUE = 65536  # characters; the same as EnvVar's, and what ends values that double at each step

_REFERENCE = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def expand(values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The values with every reference filled in, and for each name that cannot be the reason why; with a reason
    there are no values."""
    wrong = {name: reason for name, text in values.items() if (reason := _mistake(text, values))}
    graph = {name: _references(text) for name, text in values.items()}
    wrong = wrong or _cycle(graph)
    if wrong:
        return {}, wrong
    expanded: dict[str, str] = {}
    for name in TopologicalSorter(graph).static_order():
        # Added up first: a text of references to long values would fill the memory before it could be measured.
        if len(values[name]) + sum(len(expanded[needed]) for needed in graph[name]) > MAX_VALUE:
            return {}, {name: f"longer than {MAX_VALUE:,} characters once expanded"}
        expanded[name] = _REFERENCE.sub(lambda match: expanded.get(match[1], "${"), values[name])
    return expanded, {}


def _references(text: str) -> list[str]:
    return [match[1] for match in _REFERENCE.finditer(text) if match[1] is not None]


def _mistake(text: str, values: Mapping[str, str]) -> str:
    for match in _REFERENCE.finditer(text):
        if match[0] == "${":
            return "a ${ without its }; write $${ for the two characters themselves"
        name = match[1]
        if name is not None and not _NAME.fullmatch(name):
            return f"${{{name}}} holds no name of a variable; write $${{ for the two characters themselves"
        if name is not None and name not in values:
            return f"${{{name}}} is not among the names of env; only those are filled in"
    return ""


def _cycle(graph: Mapping[str, list[str]]) -> dict[str, str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        round_trip = list(reversed(error.args[1]))
        shown = " → ".join(round_trip[:8])
        return {round_trip[0]: f"the values lead back to themselves: {shown}"}
    return {}
