"""Commands that show what was written and what happened: logs, events."""

from __future__ import annotations

import json as json_format
from collections.abc import Iterable, Iterator
from typing import Annotated
from urllib.parse import urlencode

import typer

from rota.cli import output, wording
from rota.cli.commands.arguments import App, AsJson, example
from rota.cli.connection import Connection, View, quoted
from rota.cli.stream import Follower, read
from rota.core.errors import NotFound

_MOST = 10_000  # events, at most: as many as the server gives at once

Follow = Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes; Ctrl-C ends it.")]


def add_to(commands: typer.Typer) -> None:
    commands.command("logs", epilog=example("rota logs hello --all-containers -f", "rota logs hello --access"))(logs)
    commands.command("events", epilog=example("rota events -f", "rota events --app hello --json"))(events)


def logs(
    app: App,
    all_containers: Annotated[bool, typer.Option("--all-containers", help="All replicas, merged.")] = False,
    replica: Annotated[str | None, typer.Option("--replica", help="This replica.")] = None,
    follow: Follow = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="How many past lines of each replica, or requests.")] = 100,
    access: Annotated[bool, typer.Option("--access", help="The requests of its users instead.")] = False,
    json: AsJson = False,
) -> None:
    """Show what an app's replicas write; without a choice, the first replica."""
    connection = Connection()
    if access:
        _requests(connection, app, tail, follow=follow, as_json=json)
        return
    chosen = replica if replica or all_containers else _first_replica(connection, app)
    path = _logs_path(app, chosen, tail, follow)
    if follow:
        lines = read(connection, path)
        output.answer_lines(json_format.dumps(line) if json else _line(line) for line in lines)
        return
    view = connection.get(path)
    output.answer_json(view) if json else output.answer_lines(_line(line) for line in view["lines"])


def _requests(connection: Connection, app: str, tail: int, *, follow: bool, as_json: bool) -> None:
    path = f"/api/v1/apps/{quoted(app)}/requests?tail={tail}"
    if follow:
        entries = read(connection, f"{path}&follow=true")
        output.answer_lines(json_format.dumps(entry) if as_json else wording.request(entry) for entry in entries)
        return
    view = connection.get(path)
    output.answer_json(view) if as_json else output.answer_lines(map(wording.request, view["requests"]))


def events(
    app: Annotated[str | None, typer.Option("--app", help="Only this app's.")] = None,
    follow: Follow = False,
    limit: Annotated[int, typer.Option("--limit", min=0, max=_MOST, help="How many past events.")] = 100,
    json: AsJson = False,
) -> None:
    """Show what happened, newest last."""
    connection = Connection()
    past = connection.get(_events_path(app, limit))["events"]
    if json and not follow:
        output.answer_json({"events": past})
        return
    output.answer_lines(map(json_format.dumps, past) if json else _newest_said(connection, app, limit, past))
    if follow:
        seen = past[-1]["seq"] if past else 0
        for event in _endless(connection, _events_path(app, _MOST if limit else 0), seen):
            output.answer_lines([json_format.dumps(event)] if json else _said([event]))


def _events_path(app: str | None, limit: int) -> str:
    return "/api/v1/events?" + urlencode({"limit": limit} | ({"app": app} if app else {}))


def _newest_said(connection: Connection, app: str | None, limit: int, newest: list[View]) -> list[str]:
    """So many lines for people, for whom many an event has none; ``newest`` as many events."""
    asked, found = limit, newest
    while len(said := _said(found)) < limit and len(found) == asked < _MOST:
        asked = min(4 * asked, _MOST)
        found = connection.get(_events_path(app, asked))["events"]
    return said[-limit:] if limit else []


def _said(events: Iterable[View]) -> list[str]:
    return [text for text in map(wording.event, events) if text is not None]


def _endless(connection: Connection, path: str, last: int) -> Iterator[View]:
    follower = Follower(connection, path, lambda: output.tell("the server does not answer; waiting for it"), last)
    while True:
        yield from follower.once()


def _first_replica(connection: Connection, app: str) -> str | None:
    replicas = connection.get(f"/api/v1/apps/{quoted(app)}/replicas")["replicas"]
    if not replicas:
        raise NotFound(f"{app} has no replicas")
    if len(replicas) == 1:
        return None
    first = str(replicas[0]["id"])
    output.tell(f"showing {first}, one of {len(replicas)} replicas; all of them: --all-containers")
    return first


def _logs_path(app: str, replica: str | None, tail: int, follow: bool) -> str:
    query: dict[str, str | int] = {"tail": tail}
    if replica:
        query["replica"] = replica
    if follow:
        query["follow"] = "true"
    return f"/api/v1/apps/{quoted(app)}/logs?{urlencode(query)}"


def _line(line: View) -> str:
    return f"{line['replica']} | {line['text']}"
