"""Commands that change a deployed app: restart, redeploy, rollback, scale, limits, stop, start, remove."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from rota.cli import output, plan_file, rollout, wording
from rota.cli.commands.arguments import App, example
from rota.cli.connection import Connection, View, quoted
from rota.cli.joined import Joined
from rota.cli.outcome import SETTLED, exit_code, worst
from rota.cli.policy import Policy, Waiting, taking
from rota.cli.watch import watch
from rota.core.errors import UsageError

Release = Annotated[int | None, typer.Argument(help="Its number; the one before, if left out.")]
Counts = Annotated[list[str], typer.Argument(metavar="APP=N...", help="How many replicas.")]
Memory = Annotated[str | None, typer.Option(help="Such as 256MiB; 'none' lifts the limit.")]
Cpus = Annotated[str | None, typer.Option(help="Such as 0.5; 'none' lifts the limit.")]
Cloudlets = Annotated[int | None, typer.Option(help="128 MiB and 400 MHz each.")]


def add_to(commands: typer.Typer) -> None:
    commands.command("restart", epilog=example("rota restart hello --delay 10s"))(restart)
    commands.command("redeploy", epilog=example("rota redeploy hello"))(redeploy)
    commands.command("rollback", epilog=example("rota rollback hello", "rota rollback hello 3"))(rollback)
    commands.command("scale", epilog=example("rota scale hello=5"))(scale)
    commands.command("limits", epilog=example("rota limits hello --memory 256MiB --cpus 0.5"))(limits)
    commands.command("stop", epilog=example("rota stop hello"))(stop)
    commands.command("start", epilog=example("rota start hello"))(start)
    commands.command("remove", epilog=example("rota remove hello --yes"))(remove)


@taking(Policy)
def restart(app: App, flags: Policy) -> None:
    """Restart every replica, one after the other."""
    rollout.run(Connection(), app, flags.order("restart"), flags)


@taking(Policy)
def redeploy(app: App, flags: Policy) -> None:
    """Make new replicas of the current release, as it was built."""
    rollout.run(Connection(), app, flags.order("redeploy"), flags)


@taking(Policy)
def rollback(
    app: App,
    release: Release = None,
    *,
    flags: Policy,
) -> None:
    """Go back to an earlier release."""
    rollout.run(Connection(), app, flags.order("rollback", release=release), flags)


@taking(Waiting)
def scale(
    counts: Counts,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="A saved plan: refused if it no longer holds.")
    ] = None,
    *,
    flags: Waiting,
) -> None:
    """Change the number of replicas."""
    wanted = [app_and_count(text) for text in counts]
    if plan is not None and len(wanted) > 1:
        raise UsageError("--plan is of one app; scale one at a time")
    orders = [(app, plan_file.attached(plan, flags.order("scale", replicas=count))) for app, count in wanted]
    connection = Connection()
    begun = [_begin_scale(connection, app, order, flags) for app, order in orders]
    if not flags.wait:
        _answer_all([view for view, _ in begun], [[view["id"]] for view, _ in begun], flags)
        return
    ended = [rollout.settle(connection, view, wait) for view, wait in begun]
    _answer_all(ended, [_scaled(view, count) for view, (_, count) in zip(ended, wanted, strict=True)], flags)
    raise typer.Exit(worst(_code(view, flags.fail_on_loss) for view in ended))


@taking(Policy)
def limits(
    app: App,
    memory: Memory = None,
    cpus: Cpus = None,
    cloudlets: Cloudlets = None,
    *,
    flags: Policy,
) -> None:
    """Change the resource limits of every replica; what is not given stays as it is."""
    rollout.run(Connection(), app, flags.order("limits", **limits_asked(memory, cpus, cloudlets)), flags)


def limits_asked(memory: str | None, cpus: str | None, cloudlets: int | None) -> dict[str, Any]:
    """The order's own part. Raises UsageError."""
    asked: dict[str, Any] = {}
    if memory is not None:
        asked["memory"] = None if memory == "none" else memory
    if cpus is not None:
        asked["cpus"] = None if cpus == "none" else _number(cpus)
    if cloudlets is not None:
        asked["cloudlets"] = cloudlets
    if not asked:
        raise UsageError("give --memory, --cpus or --cloudlets")
    return asked


@taking(Waiting)
def stop(
    app: App,
    remove_containers: Annotated[
        bool, typer.Option("--remove-containers", help="Keep nothing of the stopped replicas.")
    ] = False,
    *,
    flags: Waiting,
) -> None:
    """Stop every replica of an app."""
    rollout.run(Connection(), app, flags.order("stop", remove=remove_containers), flags)


@taking(Waiting)
def start(app: App, flags: Waiting) -> None:
    """Start a stopped app."""
    rollout.run(Connection(), app, flags.order("start"), flags)


@taking(Waiting)
def remove(
    app: App,
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
    *,
    flags: Waiting,
) -> None:
    """Stop an app and delete it with its releases."""
    if not yes:
        _ask(app)
    rollout.run(Connection(), app, flags.order("remove"), flags)


def _ask(app: str) -> None:
    if not sys.stdin.isatty():
        raise UsageError("remove asks first, and there is no terminal to ask at; give --yes")
    if not typer.confirm(f"Remove {app} with all its releases and files?", err=True):
        raise typer.Exit(1)


def app_and_count(text: str) -> tuple[str, int]:
    """Of ``APP=N``. Raises UsageError."""
    app, _, count = text.partition("=")
    if not app or not (count.isascii() and count.isdigit()):
        raise UsageError(f"{text!r} is not APP=N, such as hello=3")
    if not int(count):
        raise UsageError(f"{text}: 1 replica is the fewest; to have none: rota stop {app}")
    return app, int(count[:9])


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--cpus {text} is not a number, such as 0.5") from None


def _begin_scale(connection: Connection, app: str, order: View, flags: Waiting) -> tuple[View, rollout.Wait]:
    """The scale's rollout, or the one that it found under way, and how to wait."""
    before = connection.get(f"/api/v1/apps/{quoted(app)}")["replicas_wanted"]
    view = rollout.begin(connection, app, order)
    if view["kind"] == "scale":
        return view, watch
    output.tell(wording.scaled_beside(app, order["replicas"], view, waits=flags.wait))
    return view, Joined(app, before, order["replicas"]).wait


def _scaled(view: View, count: int) -> list[str]:
    return wording.ending(view) if view["phase"] in SETTLED else [wording.scaled(view["app"], count, view)]


def _code(view: View, fail_on_loss: bool) -> int:
    """One that goes on has had its share of this; what was lost until now counts."""
    return exit_code(view if view["phase"] in SETTLED else view | {"phase": "succeeded"}, fail_on_loss)


def _answer_all(views: list[View], texts: list[list[str]], flags: Waiting) -> None:
    if flags.json:
        output.answer_json(views[0] if len(views) == 1 else {"rollouts": views})
        return
    for lines in texts:
        output.answer_lines(lines)
