"""Commands that show what there is: ls, ps, status, releases."""

from __future__ import annotations

from typing import Annotated

import typer

from rota.cli import output, wording
from rota.cli.commands.arguments import App, AsJson, example
from rota.cli.connection import Connection, View, quoted
from rota.cli.outcome import ENDED
from rota.cli.table import table
from rota.core.errors import UsageError

MaybeApp = Annotated[
    str | None, typer.Argument(metavar="[APP]", help="The app's name; may be left out.", show_default=False)
]


def add_to(commands: typer.Typer) -> None:
    commands.command("ls", epilog=example("rota ls"))(ls)
    commands.command("ps", epilog=example("rota ps hello", "rota ps hello --json"))(ps)
    commands.command("status", epilog=example("rota status hello"))(status)
    commands.command("releases", epilog=example("rota releases hello"))(releases)


def ls(json: AsJson = False) -> None:
    """List the apps."""
    view = Connection().get("/api/v1/apps")
    if json:
        output.answer_json(view)
        return
    rows = [
        (app["name"], app["phase"], f"{app['ready']}/{app['replicas_wanted']}", app["release"], " ".join(app["urls"]))
        for app in view["apps"]
    ]
    output.answer(table(("APP", "PHASE", "READY", "RELEASE", "URL"), rows))


def ps(app: MaybeApp = None, json: AsJson = False) -> None:
    """List an app's replicas."""
    connection = Connection()
    view = connection.get(f"/api/v1/apps/{quoted(app or _only_app(connection))}/replicas")
    output.answer_json(view) if json else output.answer(_replicas(view["replicas"]))


def status(app: MaybeApp = None, json: AsJson = False) -> None:
    """Show an app, or all: addresses, every replica, the last rollout with its receipt."""
    connection = Connection()
    names = [app] if app else [entry["name"] for entry in connection.get("/api/v1/apps")["apps"]]
    views = [connection.get(f"/api/v1/apps/{quoted(name)}") for name in names]
    if json:
        output.answer_json(views[0] if app else {"apps": views})
        return
    output.answer("\n\n".join(_status(view) for view in views) if views else "no apps; begin with: rota init")


def releases(app: App, json: AsJson = False) -> None:
    """List an app's releases, newest first."""
    view = Connection().get(f"/api/v1/apps/{quoted(app)}/releases")
    if json:
        output.answer_json(view)
        return
    rows = [
        (
            release["number"],
            "current" if release["current"] else "",
            wording.day_and_clock(release["created_at"]),
            release["rollout"],
            " ".join(release["command"]),
        )
        for release in view["releases"]
    ]
    output.answer(table(("RELEASE", "", "CREATED", "ROLLOUT", "COMMAND"), rows))


def _only_app(connection: Connection) -> str:
    names = [str(entry["name"]) for entry in connection.get("/api/v1/apps")["apps"]]
    if len(names) != 1:
        raise UsageError(f"name one of the apps: {', '.join(names)}" if names else "there are no apps yet")
    return names[0]


def _replicas(replicas: list[View]) -> str:
    rows = [
        (
            replica["id"],
            replica["slot"],
            replica["release"],
            replica["phase"],
            replica["address"],
            wording.day_and_clock(replica["started_at"]),
            replica["restarts"],
            wording.limits(replica.get("limits")),
            replica["reason"],
        )
        for replica in replicas
    ]
    head = ("REPLICA", "SLOT", "RELEASE", "PHASE", "ADDRESS", "STARTED", "RESTARTS", "LIMITS", "REASON")
    return table(head, rows)


def _status(view: View) -> str:
    lines = [
        f"{view['name']}: {view['phase']}, {view['ready']} of {view['replicas_wanted']} ready, "
        f"release {view['release'] or '-'}",
        *(f"  {url}" for url in view["urls"]),
        _replicas(view["replicas"]),
    ]
    for replica in view["replicas"]:
        lines += [f"{replica['id']} | {text}" for text in replica.get("log") or []]
    return "\n".join([*lines, *_last_rollout(view.get("rollout"))])


def _last_rollout(rollout: View | str | None) -> list[str]:
    if not isinstance(rollout, dict):
        return []
    if rollout["phase"] in ENDED or rollout["phase"] == "paused":
        return wording.ending(rollout)
    progress = rollout.get("progress") or {"done": 0, "of": 0}
    return [
        f"{rollout['id']} {rollout['kind']} {rollout['phase']}, {progress['done']} of {progress['of']} done",
        *wording.receipt(rollout.get("receipt")),
    ]
