"""What there is, as tables and as JSON: apps, replicas, what they use, releases; printed by the reading commands.

Imports neither typer nor anything that costs time: these commands are typed, and run by scripts, all day."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rota.cli import output, wording
from rota.cli.connection import Connection, View, quoted
from rota.cli.outcome import SETTLED
from rota.cli.table import table
from rota.core.errors import UsageError

_IN_MAINTENANCE = "in maintenance: its users are answered with 503"


def ls(as_json: bool = False) -> None:
    """List the apps."""
    view = Connection().get("/api/v1/apps")
    if as_json:
        output.answer_json(view)
        return
    rows = [
        (app["name"], app["phase"], f"{app['ready']}/{app['replicas_wanted']}", app["release"], " ".join(app["urls"]))
        for app in view["apps"]
    ]
    output.answer(table(("APP", "PHASE", "READY", "RELEASE", "URL"), rows))


def ps(app: str | None = None, as_json: bool = False) -> None:
    """List an app's replicas."""
    connection = Connection()
    view = connection.get(f"/api/v1/apps/{quoted(app or _only_app(connection))}/replicas")
    if as_json:
        output.answer_json(view)
        return
    if view["maintenance"]:
        output.tell(f"{view['app']} is {_IN_MAINTENANCE}")
    output.answer(_replicas(view["replicas"]))


def status(app: str | None = None, as_json: bool = False) -> None:
    """Show an app, or all: addresses, every replica, the last rollout with its receipt."""
    connection = Connection()
    names = [app] if app else [entry["name"] for entry in connection.get("/api/v1/apps")["apps"]]
    views = [connection.get(f"/api/v1/apps/{quoted(name)}") for name in names]
    if as_json:
        output.answer_json(views[0] if app else {"apps": views})
        return
    output.answer("\n\n".join(_status(view) for view in views) if views else "no apps; begin with: rota init")


def stats(app: str | None = None, as_json: bool = False) -> None:
    """Show what the replicas of an app, or of all, use and serve."""
    connection = Connection()
    if app is not None:
        view = connection.get(f"/api/v1/apps/{quoted(app)}/stats")
        apps = [view]
    else:
        view = connection.get("/api/v1/stats")
        apps = view["apps"]
    output.answer_json(view) if as_json else output.answer("\n\n".join(map(_stats, apps)) or "there are no apps yet")


def releases(app: str, as_json: bool = False) -> None:
    """List an app's releases, newest first."""
    view = Connection().get(f"/api/v1/apps/{quoted(app)}/releases")
    if as_json:
        output.answer_json(view)
        return
    rows = [
        (
            release["number"],
            "current" if release["current"] else "given up" if release["given_up"] else "",
            wording.day_and_clock(release["created_at"]),
            release["rollout"],
            " ".join([*([release["image"]] if release["image"] else []), *release["command"]]),
        )
        for release in view["releases"]
    ]
    output.answer(table(("RELEASE", "STATE", "CREATED", "ROLLOUT", "RUNS"), rows))


COMMANDS: Mapping[str, Callable[[str | None, bool], None]] = {
    "ls": lambda app, as_json: ls(as_json),
    "ps": ps,
    "stats": stats,
    "status": status,
}
"""Those that take nothing but an app's name and --json."""


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
            replica.get("open", 0),
            wording.limits(replica.get("limits")),
            replica["reason"],
        )
        for replica in replicas
    ]
    head = ("REPLICA", "SLOT", "RELEASE", "PHASE", "ADDRESS", "STARTED", "RESTARTS", "OPEN", "LIMITS", "REASON")
    dns = [replica.get("dns") for replica in replicas]
    if not any(dns):
        return table(head, rows)
    with_dns = ((*row[:-1], state, row[-1]) for row, state in zip(rows, dns, strict=True))
    return table((*head[:-1], "DNS", head[-1]), with_dns)


def _stats(view: View) -> str:
    rows = [
        (
            replica["id"],
            replica["phase"],
            wording.share(replica["memory"]["used"], replica["memory"]["limit"], wording.memory),
            wording.share(replica["cpu"]["percent"], replica["cpu"]["limit_percent"], wording.percent),
            wording.served(replica["requests"], replica.get("tcp", 0)),
            f"{replica['app_errors']:,}",
            wording.connections(replica["open"], replica["connections"]),
        )
        for replica in view["replicas"]
    ]
    backends = [
        f"{backend['name']}: {wording.came(backend)}, {backend['failed']:,} failed, "
        f"{backend['app_errors']:,} answered 5xx by the app, {backend['retried']:,} retried, {backend['open']:,} open"
        for backend in view["backends"]
    ]
    old = wording.old_processes(view["old_processes"], view["let_go"])
    return "\n".join([table(("REPLICA", "PHASE", "MEMORY", "CPU", "REQUESTS", "5XX", "OPEN"), rows), *backends, *old])


def _status(view: View) -> str:
    lines = [
        f"{view['name']}: {view['phase']}, {view['ready']} of {view['replicas_wanted']} ready, "
        f"release {view['release'] or '-'}",
        *(f"  {url}" for url in view["urls"]),
        *([f"  {_IN_MAINTENANCE}"] if view["maintenance"] else []),
        _replicas(view["replicas"]),
    ]
    for replica in view["replicas"]:
        lines += [f"{replica['id']} | {text}" for text in replica.get("log") or []]
    return "\n".join([*lines, *_last_rollout(view.get("rollout"))])


def _last_rollout(rollout: View | str | None) -> list[str]:
    if not isinstance(rollout, dict):
        return []
    if rollout["phase"] in SETTLED:
        return wording.ending(rollout)
    progress = rollout.get("progress") or {"done": 0, "of": 0}
    left = wording.time_left(progress)
    return [
        f"{rollout['id']} {rollout['kind']} {rollout['phase']}, {progress['done']} of {progress['of']} done"
        + (f", {left}" if left else ""),
        *wording.receipt(rollout.get("receipt")),
    ]
