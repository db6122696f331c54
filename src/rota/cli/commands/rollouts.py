"""The command ``rota rollout``: ls, show, watch, pause, resume, skip, set, abort."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer

from rota.cli import output, rollout, wording
from rota.cli.commands.arguments import AsJson, example
from rota.cli.connection import Connection, View, quoted
from rota.cli.outcome import ENDED, SETTLED
from rota.cli.table import table
from rota.core.errors import NotFound, UsageError

Id = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="Such as hello.3, or an app for its last one.", show_default=False),
]
FailOnLoss = Annotated[bool, typer.Option("--fail-on-loss", help="Exit with 7 if a request was lost.")]


def add_to(commands: typer.Typer) -> None:
    group = typer.Typer(help="List, watch and steer rollouts.", no_args_is_help=True)
    group.command("ls", epilog=example("rota rollout ls --app hello"))(ls)
    group.command("show", epilog=example("rota rollout show hello.3 --json"))(show)
    group.command("watch", epilog=example("rota rollout watch hello.3"))(watch)
    group.command("pause", epilog=example("rota rollout pause hello.3"))(pause)
    group.command("resume", epilog=example("rota rollout resume hello.3"))(resume)
    group.command("skip", epilog=example("rota rollout skip hello.3 --slot 2"))(skip)
    group.command("set", epilog=example("rota rollout set hello.3 --delay 5s --parallelism 2"))(set_pace)
    group.command("abort", epilog=example("rota rollout abort hello.3"))(abort)
    commands.add_typer(group, name="rollout")


def ls(
    app: Annotated[str | None, typer.Option("--app", help="Only this app's.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="At most so many.")] = 50,
    json: AsJson = False,
) -> None:
    """List rollouts, newest first."""
    view = Connection().get("/api/v1/rollouts?" + urlencode({"limit": limit} | ({"app": app} if app else {})))
    output.answer_json(view) if json else output.answer(_table(view["rollouts"]))


def show(id: Id = None, json: AsJson = False) -> None:
    """Show a rollout: its steps and its receipt."""
    connection = Connection()
    view = _one(connection, id)
    if json:
        output.answer_json(view)
        return
    if view.get("steps_cut"):
        output.tell(f"earlier steps are left out; those that are kept: rota events --app {view['app']} --limit 10000")
    told = (wording.step(step, view["id"]) for step in view["steps"])
    output.answer_lines(text for text in told if text is not None)
    if view["phase"] in SETTLED:
        output.answer_lines(wording.ending(view))
    else:
        output.answer_lines([f"{view['id']} {view['kind']} {view['phase']}", *wording.receipt(view.get("receipt"))])


def watch(id: Id = None, fail_on_loss: FailOnLoss = False, json: AsJson = False) -> None:
    """Wait for a rollout's end; the exit code says how it ended."""
    connection = Connection()
    rollout.see_through(connection, _one(connection, id), as_json=json, fail_on_loss=fail_on_loss)


def pause(id: Id = None, json: AsJson = False) -> None:
    """Finish the hand-off under way, then wait for a person."""
    _steer("pause", id, json)


def resume(id: Id = None, json: AsJson = False) -> None:
    """Go on with a paused rollout."""
    _steer("resume", id, json)


def abort(id: Id = None, json: AsJson = False) -> None:
    """Go back to the release it came from."""
    _steer("abort", id, json)


def skip(
    id: Id = None,
    slot: Annotated[int | None, typer.Option("--slot", min=1, help="The slot to leave as it is.")] = None,
    replica: Annotated[str | None, typer.Option("--replica", help="A replica in that slot.")] = None,
    json: AsJson = False,
) -> None:
    """Leave one slot as it was."""
    if (slot is None) == (replica is None):
        raise UsageError("give --slot or --replica")
    _steer("skip", id, json, {"slot": slot} if slot is not None else {"replica": replica})


def set_pace(
    id: Id = None,
    delay: Annotated[str | None, typer.Option("--delay", help="Pause between replicas, 0 to 300s.")] = None,
    parallelism: Annotated[str | None, typer.Option("--parallelism", help="Replicas at a time: N or N%.")] = None,
    json: AsJson = False,
) -> None:
    """Change the speed of a rollout under way."""
    asked = {"delay": delay, "parallelism": parallelism}
    given = {name: value for name, value in asked.items() if value is not None}
    if not given:
        raise UsageError("give --delay or --parallelism")
    _steer("set", id, json, given)


def _steer(verb: str, id: str | None, json: bool, body: View | None = None) -> None:
    connection = Connection()
    view = connection.post(f"/api/v1/rollouts/{quoted(_one(connection, id, running=True)['id'])}/{verb}", body)
    output.answer_json(view) if json else output.answer(wording.steered(verb, view))


def _one(connection: Connection, id: str | None, running: bool = False) -> View:
    """The rollout that is meant: by id, else the last one of that app, else the last one of all; a running one where
    that is what can be steered. Raises NotFound."""
    if id is not None and "." in id:
        return connection.get(f"/api/v1/rollouts/{quoted(id)}")
    listed = connection.get("/api/v1/rollouts" + (f"?{urlencode({'app': id})}" if id else ""))["rollouts"]
    fitting = [view for view in listed if not running or view["phase"] not in ENDED]
    if not fitting:
        of = f" of {id}" if id else ""
        raise NotFound(f"no rollout{of} is under way" if running else f"there is no rollout{of} yet")
    return connection.get(f"/api/v1/rollouts/{quoted(fitting[0]['id'])}")


def _table(rollouts: list[View]) -> str:
    rows = [
        (
            view["id"],
            view["kind"],
            view["phase"],
            view["reason"],
            wording.day_and_clock(view["started_at"]),
            wording.elapsed(view["started_at"], view["finished_at"]),
            _loss(view.get("receipt")),
        )
        for view in rollouts
    ]
    return table(("ROLLOUT", "KIND", "PHASE", "REASON", "STARTED", "TOOK", "FAILED"), rows)


def _loss(receipt: View | None) -> str:
    return f"{receipt['failed']:,} of {receipt['requests'] + receipt.get('connections', 0):,}" if receipt else ""
