"""Explanations: why a replica failed, in a person's words, with what may help (R9); pure text, made of an exit, the
last lines of output and times. Called for every replica that fails (core.arrival, core.lateness)."""

from __future__ import annotations

import math
import re
import signal
from collections.abc import Callable, Sequence

from rota.core.observation import Exit
from rota.core.spec import Limits

SHELLS_OWN = 128  # a shell returns this plus the signal that ended its command (POSIX, "Exit Status for Commands")
LONGEST_LINE = 2000  # characters of a line that are looked at: what says why stands at its end
_CODES = {
    126: "its command was found and cannot be executed",
    127: "a command was not found",
}
_SERVICES = {
    1433: "SQL Server",
    3306: "MySQL",
    5432: "PostgreSQL",
    5672: "RabbitMQ",
    6379: "Redis",
    9092: "Kafka",
    9200: "Elasticsearch",
    11211: "memcached",
    27017: "MongoDB",
}


def exit_in_words(ended: Exit | None, limits: Limits, *, stopped: bool = False) -> str:
    """How a run ended; ``limits`` are those that it had, ``stopped``: somebody else than rota told it to."""
    words = _exit_in_words(ended, limits)
    return f"somebody stopped it, not rota; {words}" if stopped else words


def _exit_in_words(ended: Exit | None, limits: Limits) -> str:
    if ended is None:
        return "it disappeared: nothing of it is left"
    if ended.oom:
        limit = (
            f"its limit is {limits.memory / 2**20:g} MiB" if limits.memory else "it has no limit, the machine is full"
        )
        return f"it was ended by the kernel: out of memory ({limit}); raise resources.memory or make it use less"
    if ended.signal is not None:
        return f"it was ended by signal {ended.signal}{_signal_name(ended.signal)}"
    if ended.code is None:
        return "it ended while nobody watched; its exit code is not known"
    meaning = _CODES.get(ended.code, "")
    if ended.code > SHELLS_OWN and _signal_name(ended.code - SHELLS_OWN):
        number = ended.code - SHELLS_OWN
        meaning = f"a shell's word for signal {number}{_signal_name(number)}"
    return f"it exited with code {ended.code}" + (f": {meaning}" if meaning else "")


def with_advice(detail: str, log: Sequence[str]) -> str:
    """The detail of a failure, and what the last lines of output say that a person can act on."""
    found = advice(log)
    return f"{detail}; {found}" if found else detail


def advice(log: Sequence[str]) -> str:
    """What the last lines point at; the last line that does, as a first error brings about others, and a program that
    gives up says so at the end. Empty when nothing is known of any."""
    for line in (line[-LONGEST_LINE:] for line in reversed(log)):
        for pattern, told in _SIGNS:
            match = pattern.search(line)
            if match is not None:
                return f"its log says that {told(match)}"
    return ""


def too_slow(took: float, allowed: float, key: str, other: float = 0.0) -> str:
    """``4 s too slow: set boot_timeout to 70 s``. Times in seconds; ``other`` is what another key allows already."""
    return f"{_seconds(took - allowed)} too slow: set {key} to {_seconds(_fitting(took) - other)}"


def _fitting(took: float) -> float:
    """A round value with a twentieth to spare."""
    wanted = took * 1.05
    unit = 1.0 if wanted < 10 else 5.0 if wanted < 60 else 10.0
    return math.ceil(wanted / unit) * unit


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 1 and abs(value - round(value)) < 0.05 else f"{max(value, 0.1):.1f} s"


def _signal_name(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal, or none
        return ""


def _missing_variable(match: re.Match[str]) -> str:
    return f"the variable {match['name']} is missing: give it under env:"


def _missing_module(match: re.Match[str]) -> str:
    return f"the module {match['name']} is missing: install it in build_command, and see that it is sent"


def _refused(match: re.Match[str]) -> str:
    where = _ADDRESS.search(match.string)
    if where is None:
        return "a connection was refused: is what it depends on running, and reachable from here?"
    service = _SERVICES.get(int(where["port"]))
    name = f"{service} at " if service else ""
    place = f"{name}{where['host']} port {where['port']}"
    return f"a connection was refused ({place}): is it running, and reachable from here?"


def _port_taken(match: re.Match[str]) -> str:
    return "its port is in use: listen on $PORT, which differs from replica to replica"


def _memory(match: re.Match[str]) -> str:
    return "it ran out of memory: raise resources.memory or make it use less"


_NAME = r"[\"'`]?(?P<name>[A-Z][A-Z0-9_]{2,})[\"'`]?"
_ADDRESS = re.compile(
    r"(?P<host>\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:]+\]|\b[a-z][\w.-]*)[\"')]*(?: \([^)]*\))?"
    r"(?::|,? port )(?P<port>\d{2,5})\b",
    re.IGNORECASE,
)
_SIGNS: Sequence[tuple[re.Pattern[str], Callable[[re.Match[str]], str]]] = (
    (re.compile(rf"KeyError: {_NAME}\s*$"), _missing_variable),
    (re.compile(rf"key not found: {_NAME}"), _missing_variable),
    (re.compile(rf"\b{_NAME}: (?:unbound variable|parameter (?:null or )?not set)"), _missing_variable),
    (
        re.compile(
            rf"(?i:(?:missing|required|undefined|unset)[\w ]* (?:environment |env )?(?:variable|var)s?):? {_NAME}"
        ),
        _missing_variable,
    ),
    (
        re.compile(
            rf"{_NAME}(?i: (?:environment |env )?(?:variable |var )?(?:is|was|must be|has to be|not))"
            r"(?i: (?:missing|required|not set|unset|undefined|not defined|set|empty)| not set)"
        ),
        _missing_variable,
    ),
    (re.compile(r"(?:No module named|Cannot find (?:module|package)) [\"'](?P<name>[^\"']+)[\"']"), _missing_module),
    (re.compile(r"(?i:address already in use|EADDRINUSE)"), _port_taken),
    (re.compile(r"(?i:connection refused|ECONNREFUSED|can't connect to|could not connect to)"), _refused),
    (re.compile(r"MemoryError|OutOfMemoryError|heap out of memory|(?i:cannot allocate memory)"), _memory),
)
"""What programs of all kinds say, and what it means; the first that fits a line counts."""
