"""The command ``rota plan``: what deploy, restart, redeploy, rollback, scale or limits would do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rota.cli import output, plan_file, plan_wording
from rota.cli.commands.arguments import App, File, example
from rota.cli.commands.changing import Cloudlets, Cpus, Memory, Release, app_and_count, limits_asked
from rota.cli.commands.deploying import DEFAULT_FILE, deploy_order, placing
from rota.cli.connection import Connection, View, quoted
from rota.cli.policy import Policy, Waiting, taking
from rota.core.errors import UsageError

_ACTS = frozenset({"wait", "fail_on_loss", "plan"})
"""Flags of what is carried out; a plan is not."""

Out = Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Save the plan, for --plan.")]
Count = Annotated[str, typer.Argument(metavar="APP=N", help="How many replicas.", show_default=False)]


def add_to(commands: typer.Typer) -> None:
    group = typer.Typer(help="Show what a change would do, how long it would take and what it means for the users.")
    group.callback(invoke_without_command=True, epilog=example("rota plan", "rota plan restart hello -o plan.json"))(
        deploy
    )
    group.command("restart", epilog=example("rota plan restart hello --order in-place"))(restart)
    group.command("redeploy", epilog=example("rota plan redeploy hello"))(redeploy)
    group.command("rollback", epilog=example("rota plan rollback hello 3"))(rollback)
    group.command("scale", epilog=example("rota plan scale hello=5"))(scale)
    group.command("limits", epilog=example("rota plan limits hello --memory 256MiB --order start-first"))(limits)
    commands.add_typer(group, name="plan")


@taking(Policy, without=_ACTS)
def deploy(context: typer.Context, file: File = DEFAULT_FILE, out: Out = None, *, flags: Policy) -> None:
    """Show what a change would do, how long it would take and what it means for the users; without another command,
    what deploy would do."""
    if context.invoked_subcommand is not None:
        if out is not None or file != DEFAULT_FILE or flags != Policy():
            raise UsageError(f"give the flags after {context.invoked_subcommand}, which they are for")
        return
    connection = Connection()
    app, order = deploy_order(connection, file, flags, upload=False)
    with placing(file):
        _show(connection, app, order, out, flags)


@taking(Policy, without=_ACTS)
def restart(app: App, out: Out = None, *, flags: Policy) -> None:
    """What restart would do."""
    _show(Connection(), app, flags.order("restart"), out, flags)


@taking(Policy, without=_ACTS)
def redeploy(app: App, out: Out = None, *, flags: Policy) -> None:
    """What redeploy would do."""
    _show(Connection(), app, flags.order("redeploy"), out, flags)


@taking(Policy, without=_ACTS)
def rollback(app: App, release: Release = None, out: Out = None, *, flags: Policy) -> None:
    """What rollback would do."""
    _show(Connection(), app, flags.order("rollback", release=release), out, flags)


@taking(Waiting, without=_ACTS)
def scale(count: Count, out: Out = None, *, flags: Waiting) -> None:
    """What scale would do."""
    app, replicas = app_and_count(count)
    _show(Connection(), app, flags.order("scale", replicas=replicas), out, flags)


@taking(Policy, without=_ACTS)
def limits(
    app: App,
    memory: Memory = None,
    cpus: Cpus = None,
    cloudlets: Cloudlets = None,
    out: Out = None,
    *,
    flags: Policy,
) -> None:
    """What limits would do."""
    _show(Connection(), app, flags.order("limits", **limits_asked(memory, cpus, cloudlets)), out, flags)


def _show(connection: Connection, app: str, order: View, file: Path | None, flags: Waiting) -> None:
    plan = connection.post(f"/api/v1/apps/{quoted(app)}/plans", order)
    if file is not None:
        plan_file.save(file, plan)
    if flags.json:
        output.answer_json(plan)
    else:
        output.answer_lines(plan_wording.plan(plan))
    if file is not None:
        output.tell(f"saved in {file}; to carry it out, give the command itself with --plan {file}")
