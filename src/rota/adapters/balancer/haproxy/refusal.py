"""Why HAProxy refuses a file, in a person's words: the apps whose lines it names, and what it says of them; pure, asked
by disk.py."""

from __future__ import annotations

import re

from rota.adapters.balancer.haproxy.view import app_of

_ALERT = re.compile(r"^\[ALERT\]\s+\(\d+\) : config : (?:parsing )?(.*)$", re.MULTILINE)
_LINE = re.compile(r"\[[^\]:]+:(\d+)\]")
_NAMED = re.compile(r"(?:backend|proxy|server) '([a-z0-9-]+)\.[0-9a-f]{8}(?:\.[0-9]+)?[/']", re.IGNORECASE)
_SUMMARY = ("Error(s) found", "Fatal errors found")
_MOST_SHOWN = 3


def refusal(text: str, said: str) -> str:
    """``text`` is the file, ``said`` what HAProxy wrote about it."""
    alerts = [alert for alert in _ALERT.findall(said) if not alert.startswith(_SUMMARY)]
    apps = sorted({app for alert in alerts for app in _apps(text.splitlines(), alert)})
    because = f" because of {', '.join(apps)}" if apps else ""
    reasons = "; ".join(alerts[:_MOST_SHOWN]) or said.strip() or "it does not say why"
    return f"HAProxy does not accept its new file{because}, and the one before stays in force: {reasons}"


def _apps(lines: list[str], alert: str) -> set[str]:
    """By the section that a named line is in, and by the names of backends."""
    named = set(_NAMED.findall(alert))
    for number in map(int, _LINE.findall(alert)):
        section = next((line for line in reversed(lines[:number]) if line and not line.startswith((" ", "#"))), "")
        if section.startswith("backend ") and "." in section and not section.startswith("backend _"):
            named.add(app_of(section.removeprefix("backend ")))
    return named
