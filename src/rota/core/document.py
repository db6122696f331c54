"""A YAML text as plain values that remember where they stood; read by core.specfile, knows nothing of rota's keys."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from rota.core.errors import Problem, SpecError

MAX_BYTES = 2**20
MAX_DEPTH = 32  # libyaml takes quadratic time over deep brackets: 100,000 of them cost 26 s
MAX_VALUES = 50_000  # aliases count as often as they are used, so that a "billion laughs" file ends here

Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]{0,18})", re.ASCII)
_NUMBER = re.compile(r"[-+]?[0-9]{1,18}\.[0-9]{0,18}", re.ASCII)
_TRUE = {"true", "yes", "on"}


@dataclass(frozen=True)
class Place:
    """Both count from 1."""

    line: int
    column: int


@dataclass
class Document:
    """``keys`` holds where a key stands, ``values`` where its value begins."""

    file: str
    tree: dict[str, Any] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    values: dict[Path, Place] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def report(self, message: str, place: Place, path: Path = ()) -> None:
        key = ".".join(str(part) for part in path)
        self.problems.append(Problem(message, place.line, place.column, self.file, key))


def read(source: str | bytes, file: str, as_text: Callable[[Path], bool]) -> Document:
    """The document and the mistakes that did not hinder reading; raises SpecError for those that did. A value for
    which ``as_text`` is true stays as it is written: ``1.10`` is the number 1.1, but of a variable the text "1.10"."""
    text = _decode(source, file)
    node = _compose(text, file)
    document = Document(file)
    reader = _Reader(document, as_text)
    if not isinstance(node, yaml.MappingNode):
        raise _error(f"keys such as name: are expected, not {_kind(node)}", file, _place(node.start_mark))
    document.values[()] = _place(node.start_mark)
    document.tree = reader.mapping(node, (), 0)
    return document


def _error(message: str, file: str, place: Place) -> SpecError:
    return SpecError([Problem(message, place.line, place.column, file)])


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1)


def _at(text: str, index: int) -> Place:
    return Place(text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index))


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _decode(source: str | bytes, file: str) -> str:
    if len(source) > MAX_BYTES:
        raise _error(f"the file has {len(source):,} bytes; 1 MiB is the most", file, Place(1, 1))
    if isinstance(source, bytes):
        try:
            text = source.decode("utf-8")
        except UnicodeDecodeError as error:
            before = source[: error.start].decode("utf-8")
            raise _error("the file is not UTF-8 text", file, _at(before, len(before))) from None
    else:
        text = source
    text = text.removeprefix("\ufeff")
    found = _UNPRINTABLE.search(text)
    if found:
        message = f"the control character U+{ord(found[0]):04X} cannot be part of the file"
        raise _error(message, file, _at(text, found.start()))
    return text


def _compose(text: str, file: str) -> yaml.Node:
    try:
        _survey(text, file)
        node = yaml.compose(text, yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(text, file, error) from None
    if node is None or (isinstance(node, yaml.ScalarNode) and node.tag == f"{_TAG}null"):
        raise _error("the file is empty; rota init writes one to start from", file, Place(1, 1))
    return node


def _survey(text: str, file: str) -> None:
    """Refuses, event by event and so before anything grows, what is too deep or more than one document."""
    depth = documents = 0
    for event in yaml.parse(text, yaml.CSafeLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _error("a second document begins here; a file describes one app", file, _place(event.start_mark))
        elif isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _error(f"nested more than {MAX_DEPTH} levels deep", file, _place(event.start_mark))
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _not_yaml(text: str, file: str, error: yaml.MarkedYAMLError) -> SpecError:
    place = _place(error.problem_mark or error.context_mark)
    lines = text.split("\n")
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    indentation = line[: len(line) - len(line.lstrip())]
    if "\t" in indentation:
        column = indentation.index("\t") + 1
        return _error("a tab in the indentation; YAML takes spaces only", file, Place(place.line, column))
    context = f" ({error.context})" if error.context else ""
    return _error(f"this is not YAML: {error.problem}{context}", file, place)


class _Reader:
    """Turns nodes into values and counts them; aliases are followed each time they are used."""

    def __init__(self, document: Document, as_text: Callable[[Path], bool]) -> None:
        self._document = document
        self._as_text = as_text
        self._count = 0

    def mapping(self, node: yaml.MappingNode, path: Path, depth: int) -> dict[str, Any]:
        self._visit(node, depth)
        entries: dict[str, Any] = {}
        first: dict[str, Place] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = _place(key_node.start_mark)
            if key_node.tag == f"{_TAG}merge":
                merged |= self._merge(value_node, path, depth)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                self._document.report(f"a key is a word, not {_kind(key_node)}", place, path)
                continue
            key = key_node.value
            if key in first:
                self._document.report(f'"{key}" is given twice, first in line {first[key].line}', place, (*path, key))
                continue
            first[key] = place
            self._document.keys[*path, key] = place
            entries[key] = self._value(value_node, (*path, key), depth + 1)
        return merged | entries

    def _merge(self, node: yaml.Node, path: Path, depth: int) -> dict[str, Any]:
        """``<<: *anchor``: the keys of another mapping, or of several of which the first that has a key wins."""
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, yaml.MappingNode):
                self._document.report("<< takes the keys of another section, as in <<: *name", _place(node.start_mark))
                continue
            merged = self.mapping(source, path, depth + 1) | merged
        return merged

    def _value(self, node: yaml.Node, path: Path, depth: int) -> Any:
        self._document.values[path] = _place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth)
        self._visit(node, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*path, index), depth + 1) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix(_TAG)
        if kind == "null":
            return None
        if self._as_text(path):
            return text
        if kind == "bool":
            return text.lower() in _TRUE
        # Written otherwise (1:30, 0x10, 010, .inf) a number means something else to most people: it stays a text.
        if kind == "int" and _WHOLE.fullmatch(text):
            return int(text)
        if kind == "float" and _NUMBER.fullmatch(text):
            return float(text)
        return text

    def _visit(self, node: yaml.Node, depth: int) -> None:
        place = _place(node.start_mark)
        self._count += 1
        if depth > MAX_DEPTH:
            raise _error("an alias leads back to itself", self._document.file, place)
        if self._count > MAX_VALUES:
            raise _error(f"more than {MAX_VALUES:,} values once aliases are followed", self._document.file, place)
        if not node.tag.startswith(_TAG) or "/" in node.tag:
            self._document.report(f'the tag "{node.tag.removeprefix(_TAG)}" is not understood', place)


def parents(path: Path) -> list[Path]:
    """The path and all above it, the nearest first."""
    return [path[:length] for length in range(len(path), -1, -1)]
