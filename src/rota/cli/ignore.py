"""What of a source directory stays at home: the rules of .dockerignore and our own; used by cli.pack."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

LEFT_OUT = (".git", ".venv", "node_modules", "__pycache__", ".env*")
"""Left out at any depth unless a ``!`` line names them (design.md, "File")."""


@dataclass(frozen=True)
class Rule:
    """One line of .dockerignore. ``names_left_out`` is true of a ``!`` line that names one of LEFT_OUT itself: a wide
    one such as ``!**/*.md`` must not bring back half of node_modules."""

    negated: bool
    segments: tuple[str, ...]
    expression: re.Pattern[str]
    names_left_out: bool

    def matches(self, path: str) -> bool:
        """Also when it matches a directory above, as Docker has it."""
        return self.expression.fullmatch(path) is not None

    def may_match_below(self, path: str) -> bool:
        parts = path.split("/")
        for segment, part in zip(self.segments, parts, strict=False):
            if "**" in segment or "\\" in segment:
                return True
            if not fnmatchcase(part, segment):
                return False
        return len(self.segments) > len(parts)


class Ignore:
    """The rules of one directory; the last line that matches a path decides."""

    def __init__(self, text: str = "") -> None:
        lines = text.removeprefix("\ufeff").splitlines()
        self._rules = tuple(rule for line in lines if (rule := _rule(line)) is not None)

    def leaves_out(self, path: str) -> bool:
        """``path`` is relative to the directory, with slashes."""
        by_rule = False
        by_default = any(_is_left_out(part) for part in path.split("/"))
        for rule in self._rules:
            if rule.matches(path):
                by_rule = not rule.negated
                by_default = by_default and not rule.names_left_out
        return by_rule or by_default

    def names(self, path: str) -> bool:
        """Whether a ``!`` line asks for the path."""
        return any(rule.negated and rule.matches(path) for rule in self._rules)

    def may_keep_below(self, path: str) -> bool:
        """Whether a ``!`` line can bring something back from a directory that is left out."""
        return any(rule.negated and rule.may_match_below(path) for rule in self._rules)


def _is_left_out(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in LEFT_OUT)


def _rule(line: str) -> Rule | None:
    if line.startswith("#"):
        return None
    text = line.strip()
    negated = text.startswith("!")
    cleaned = posixpath.normpath("/" + text.removeprefix("!").strip()).strip("/")
    if not cleaned:
        return None
    segments = tuple(cleaned.split("/"))
    names = negated and any(_is_left_out(segment) for segment in segments)
    return Rule(negated, segments, re.compile(_expression(cleaned) + "(/.*)?", re.DOTALL), names)


_TOKEN = re.compile(r"\*\*/?|\*|\?|\\.|\[\^?\]?[^]/]*\]|.", re.DOTALL)


def _expression(pattern: str) -> str:
    return "".join(_translated(match[0], match.end() == len(pattern)) for match in _TOKEN.finditer(pattern))


def _translated(symbol: str, last: bool) -> str:
    """Go's filepath.Match, with ``**`` for any number of directories."""
    if symbol.startswith("**"):
        return ".*" if last else "(.*/)?"
    if symbol == "*":
        return "[^/]*"
    if symbol == "?":
        return "[^/]"
    if symbol.startswith("[") and len(symbol) > 2:
        negation = "^" if symbol[1] == "^" else ""
        inside = symbol[1 + len(negation) : -1].replace("\\", "\\\\").replace("[", "\\[").replace("^", "\\^")
        return f"[{negation}{inside}]" if _compiles(f"[{inside}]") else re.escape(symbol)
    return re.escape(symbol[-1] if symbol.startswith("\\") else symbol)


def _compiles(expression: str) -> bool:
    try:
        re.compile(expression)
    except re.error:
        return False
    return True
