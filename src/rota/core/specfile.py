"""The text of rota.yaml to an AppSpec, or every mistake in it at its place and in a person's words; called by the
command line before anything is sent and by the API before anything is kept."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

from pydantic import ValidationError

from rota.core.document import Document, Path, parents, read
from rota.core.errors import Problem, SpecError
from rota.core.expansion import expand
from rota.core.fitness import RuntimeKind, misfits
from rota.core.mistakes import in_words
from rota.core.model import Model
from rota.core.quantities import quoted
from rota.core.spec import AppSpec, Mode, Order, RolloutOptions
from rota.core.starter import written

DEFAULT_FILE = "rota.yaml"

NOT_YET = {
    "": "archive autoscale build canary freezes git hold image_key images migration"
    " placement post_deploy pre_deploy preset protected schedule server targets"
    " windows",
    "env": "from secret_name",
}
"""Keys of the file's full form that this version does not honour, by section: named, never dropped silently (H11)."""

NOT_YET_VALUES = {"deployment_strategy": ("canary",)}

_EXAMPLES = {"name": "name: hello", "command": 'command: ["python3", "app.py"] or image: ghcr.io/me/app:1.2'}
_LISTS = {
    "env": "- name: KEY and value: TEXT",
    "domains": "- domain: www.example.org",
    "volumes": "- uploads:/var/uploads",
    "ports": "- listen: 5432",
    "notify": "- mailto://…",
}


def parse(source: str | bytes, file: str = DEFAULT_FILE, runtime: RuntimeKind | None = None) -> AppSpec:
    """The app that a file describes; ``file`` is how messages call it, ``runtime`` where it is to run, when that is
    known. Raises SpecError with all problems found."""
    document = read(source, file, _is_text)
    _expand_env(document)
    spec = _validate(document)
    if spec is not None:
        _refuse_contradictions(document, spec)
    if spec is not None and runtime is not None:
        for key, reason in misfits(spec, runtime).items():
            _report_at_key(document, key, reason)
    if spec is None or document.problems:
        ordered = sorted(document.problems, key=lambda problem: (problem.line, problem.column))
        raise SpecError(tuple(dict.fromkeys(ordered)))
    return spec


def placed(problem: Problem, source: str | bytes, file: str) -> Problem:
    """The problem at its key's place in the file, where it names one that the file has."""
    document = read(source, file, _is_text)
    path: Path = ()
    for part in problem.key.split("."):
        found = [(*path, name) for name in (part, int(part) if part.isdigit() else part)]
        path = next((below for below in found if below in document.values), path)
    place = document.values[path] if path else None
    return problem if place is None else replace(problem, line=place.line, column=place.column, file=file)


def starter(name: str = "hello", command: Sequence[str] = ("python3", "app.py")) -> str:
    """A file to begin with, valid as it stands; raises SpecError when the name or the command is not."""
    plain = written(name, command)
    if _name_in(plain) == name:
        return plain
    # YAML takes 1 for a number and no for false: quotes make them names.
    in_quotes = written(json.dumps(name), command)
    parse(in_quotes)
    return in_quotes


def _name_in(text: str) -> str | None:
    try:
        return parse(text).name
    except SpecError:
        return None


def _sections() -> dict[str, type[Model]]:
    """The keys of the file that hold keys of their own."""
    found: dict[str, type[Model]] = {"": AppSpec}
    for name, entry in AppSpec.model_fields.items():
        for kind in (entry.annotation, *get_args(entry.annotation)):
            if isinstance(kind, type) and issubclass(kind, Model):
                found[name] = kind
    return found


_SECTIONS = _sections()


def _section(path: Path) -> str:
    return str(path[0]) if path else ""


def _is_text(path: Path) -> bool:
    """Variables' values, words of commands, tags and credentials are texts, whatever YAML makes of 8080 or 1.10."""
    match path:
        case ("env", int(), "value") | ("command" | "build_command", int()) | ("image", "tag"):
            return True
        case ("health_check", "command", int()) | ("health_check", "service"):
            return True
        case ("image", "registry", "username" | "password") | ("health_check", "expect_body"):
            return True
        case _:
            return False


def _expand_env(document: Document) -> None:
    entries = document.tree.get("env")
    if not isinstance(entries, list):
        return
    named = {
        entry["name"]: (index, entry)
        for index, entry in enumerate(entries)
        if isinstance(entry, dict) and isinstance(entry.get("name"), str) and isinstance(entry.get("value"), str)
    }
    values, wrong = expand({name: entry["value"] for name, (_, entry) in named.items()})
    for name, reason in wrong.items():
        _report(document, ("env", named[name][0], "value"), reason)
    for name, value in values.items():
        named[name][1]["value"] = value


def _validate(document: Document) -> AppSpec | None:
    try:
        return AppSpec.model_validate(document.tree)
    except ValidationError as error:
        for mistake in error.errors(include_url=False):
            _explain(document, mistake["loc"], mistake["type"], mistake["input"], mistake.get("ctx", {}))
    return None


def _refuse_contradictions(document: Document, spec: AppSpec) -> None:
    """Of a file alone: a release that was ordered with flags that took it away is read again as it is."""
    for section in ("rollout", "rollback"):
        options: RolloutOptions = getattr(spec, section)
        if options.mode is Mode.SIMULTANEOUS and options.order is Order.START_FIRST:
            reason = "start-first contradicts mode: simultaneous, which stops all replicas first"
            _report(document, (section, "order"), reason)


def _explain(document: Document, path: Path, kind: str, found: object, context: dict[str, Any]) -> None:
    if kind == "too_short" and found:
        return  # not empty, but none of what it holds is right, and that was said
    if kind == "extra_forbidden":
        _report_key(document, path)
    elif kind == "missing":
        _report_missing(document, path)
    elif kind == "rota":
        _report(document, (*path, *context["path"]), context["message"])
    elif isinstance(found, str) and found in NOT_YET_VALUES.get(".".join(map(str, path)), ()):
        _report(document, path, f"{quoted(found)} is not supported yet by this version of rota")
    else:
        _report(document, path, _in_words(path, kind, found, context))


def _report(document: Document, path: Path, message: str) -> None:
    """At the value, or where that was left out at what is nearest above it."""
    place = next(document.values[above] for above in parents(path) if above in document.values)
    name = ".".join(part for part in path if isinstance(part, str))
    document.report(f"{name}: {message}", place, path)


def _report_at_key(document: Document, key: str, message: str) -> None:
    document.report(message, document.keys.get((key,), document.values[()]), (key,))


def _report_key(document: Document, path: Path) -> None:
    section, key = _section(path[:-1]), str(path[-1])
    place = document.keys[path]
    if key in NOT_YET.get(section, "").split():
        document.report(f'"{key}" is not supported yet by this version of rota; remove it', place, path)
    else:
        document.report(f"unknown key {quoted(key)}{_advice(section, key)}", place, path)


def _advice(section: str, key: str) -> str:
    known = list(_SECTIONS[section].model_fields)
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key[:60]).lower().replace("-", "_")
    near = difflib.get_close_matches(plain, known, 1, cutoff=0.6)
    if near:
        return f'; did you mean "{near[0]}"?'
    homes = [name for name, model in _SECTIONS.items() if name != section and plain in model.model_fields]
    if homes:
        return f"; it belongs under {homes[0]}:" if homes[0] else "; it belongs at the top level"
    return f"; known here: {', '.join(known)}"


def _report_missing(document: Document, path: Path) -> None:
    if path in document.values:
        _report(document, path, "it is empty")
        return
    key = str(path[-1])
    example = f"; give it, such as {_EXAMPLES[key]}" if len(path) == 1 else ""
    place = next(document.values[above] for above in parents(path[:-1]) if above in document.values)
    document.report(f'the key "{key}" is missing{example}', place, path)


def _in_words(path: Path, kind: str, found: object, context: dict[str, Any]) -> str:
    if kind == "string_pattern_mismatch":
        return f"a path is expected that begins with / and has no spaces, not {quoted(found)}"
    return in_words(kind, found, context) or _shape_expected(path, kind, found)


def _shape_expected(path: Path, kind: str, found: object) -> str:
    """A list or a section was expected and something else stands there."""
    if kind == "tuple_type" and path[-1] in ("command", "build_command"):
        return f"a list of words is expected{_as_words(found)}; no shell takes part"
    entry = _LISTS.get(_section(path))
    if entry and kind == "tuple_type":
        return f"a list is expected, each entry as in {entry}, not {quoted(found)}"
    if entry:
        return f"an entry is written as {entry}, not {quoted(found)}"
    known = ", ".join(_SECTIONS[_section(path)].model_fields)
    return f"a section of keys is expected ({known}), not {quoted(found)}"


def _as_words(found: object) -> str:
    if not isinstance(found, str):
        return f", not {quoted(found)}"
    try:
        words = shlex.split(found)
    except ValueError:  # a quote that is never closed
        words = found.split()
    return f", such as {json.dumps(words, ensure_ascii=False)}"
