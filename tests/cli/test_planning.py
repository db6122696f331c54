"""rota plan, the file it writes, and the commands that are given one."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from tests.api.scripted_engine import ScriptedEngine, plan_view
from tests.cli.rota_command import RotaCommand

from rota.cli import plan_file, plan_wording
from rota.core.errors import StalePlan, UsageError
from rota.core.order import Restart

MIB = 2**20


@pytest.mark.parametrize(
    ("argv", "kind", "fields"),
    [
        (["restart", "hello", "--supersede"], "restart", {"supersede": True}),
        (["scale", "hello=5"], "scale", {"replicas": 5}),
        (["limits", "hello", "--memory", "256MiB"], "limits", {"memory": 256 * MIB}),
    ],
)
def test_it_asks_for_what_the_command_would_do(
    rota: RotaCommand, engine: ScriptedEngine, argv: list[str], kind: str, fields: dict[str, Any]
) -> None:
    ended = rota("plan", *argv)
    assert (ended.code, engine.orders) == (0, [])
    [(app, order)] = engine.planned
    assert (app, order.kind) == ("hello", kind)
    assert {name: getattr(order, name) for name in fields} == fields


def test_a_person_is_told_what_happens_when(rota: RotaCommand) -> None:
    assert rota("plan", "restart", "hello").out.splitlines() == [
        "hello restart, release 1 to 2: rolling, about 2.5 s",
        "users notice nothing: at least 2 of 2 replicas serve throughout",
        "",
        "    0.00 s  hello-4 starting",
        "    1.50 s  hello-4 in rotation",
        "    1.51 s  hello-1 stopping",
        "    2.50 s  succeeded",
        "",
        "    0.00 s  ##  2 serving",
        "",
        "at most 3 replicas at once: 192 MiB of 1,024 free",
        "open now: hello-1 3 (2 WebSockets); what is still open 30.0 s after its replica's turn began is cut",
        "measured: boot 1.4 s (of 3), boot of 2 at once 2.0 s (of 2)",
        "not measured yet, guessed: stop 500 ms",
        "coarse: no boot was seen yet of 3 at once",
    ]


def large(view: dict[str, Any]) -> dict[str, Any]:
    """Of fifty replicas: what the scripted plan says, with other steps and another curve."""
    begun = [{"after": 0.001, "step": "DisableServer", "replica": f"hello-{number}"} for number in range(1, 51)]
    arrived = [
        {"after": number / 10, "step": "EnableServer", "replica": f"hello-{50 + number}"} for number in range(50)
    ]
    curve = [{"after": number / 10, "serving": abs(number - 20), "running": 50} for number in range(50)]
    return view | {"steps": [*begun, *arrived], "capacity": {"least": 0, "most": 29, "curve": curve}}


def test_a_plan_of_many_replicas_is_short() -> None:
    lines = plan_wording.plan(large(plan_view("hello", Restart())))
    steps = lines[3 : lines.index("", 3)]
    assert steps[0] == "    0.00 s  50 replicas out of rotation: hello-1 to hello-50"
    assert len(steps) == 1 + 50 + 1
    bars = [line for line in lines if line.endswith(" serving")]
    assert bars[0] == f"    0.00 s  {'#' * 20:29}  20 serving"
    assert f"    2.00 s  {'':29}  0 serving" in bars
    assert bars[-1] == f"    4.90 s  {'#' * 29}  29 serving"
    assert len(bars) <= 12


def test_of_very_many_steps_the_first_and_the_last_are_shown() -> None:
    view = plan_view("hello", Restart())
    steps = [{"after": number, "step": "EnableServer", "replica": f"hello-{number}"} for number in range(100)]
    lines = plan_wording.plan(view | {"steps": steps})
    shown = lines[3 : lines.index("", 3)]
    assert len(shown) == 30 + 1 + 10 + 1
    assert shown[30] == "       ...  60 more steps of the same kinds; all of them: --json"
    assert shown[31] == "   90.00 s  hello-90 in rotation"


def test_a_person_is_told_that_there_is_no_end(rota: RotaCommand, engine: ScriptedEngine) -> None:
    engine.endless = True
    told = rota("plan", "restart", "hello").out.splitlines()
    assert told[0] == "hello restart, release 1 to 2: rolling, no end in sight"
    assert "    2.50 s  no end in sight" in told


def test_a_person_is_told_how_long_caches_are_waited_for(rota: RotaCommand) -> None:
    assert "each replica leaves DNS 30 s before" in rota("plan", "restart", "hello", "--remove-from-dns").out


def test_a_deploy_is_planned_without_uploading(rota: RotaCommand, engine: ScriptedEngine, app: Path) -> None:
    assert rota("plan", "--delay", "5s").code == 0
    [(_, order)] = engine.planned
    assert order.kind == "deploy"
    assert order.source is not None
    assert order.policy.delay == 5.0
    assert (engine.sources.sizes, engine.orders) == ({}, [])


def test_flags_before_the_command_that_they_are_for(rota: RotaCommand, engine: ScriptedEngine) -> None:
    ended = rota("plan", "--delay", "5s", "restart", "hello")
    assert (ended.code, engine.planned) == (2, [])
    assert "give the flags after restart" in ended.err


def test_a_saved_plan_goes_with_the_order_and_brings_its_policy(
    rota: RotaCommand, engine: ScriptedEngine, tmp_path: Path
) -> None:
    file = tmp_path / "plan.json"
    shown = rota("plan", "restart", "hello", "--delay", "7s", "-o", str(file), "--json")
    assert json.loads(file.read_text()) == shown.json
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert f"with --plan {file}" in shown.err
    assert rota("restart", "hello", "--plan", str(file)).code == 0
    assert rota("restart", "hello", "--delay", "1s", "--plan", str(file)).code == 0
    (_, same), (_, other) = engine.orders
    assert same.plan is not None
    assert same.plan.steps == ("BeginRollout", "StartReplica hello-4", "EnableServer hello-4", "StopReplica hello-1")
    assert (same.plan.basis, same.plan.durations.stop_of(1).seconds) == ({"app": "hello", "kind": "restart"}, 0.5)
    assert (same.policy.delay, other.policy.delay) == (7.0, 1.0)  # type: ignore[union-attr]


def test_a_plan_is_of_one_app(rota: RotaCommand, engine: ScriptedEngine) -> None:
    ended = rota("scale", "hello=3", "shop=2", "--plan", "plan.json")
    assert (ended.code, engine.orders) == (2, [])
    assert "--plan is of one app" in ended.err


def test_a_stale_plan_is_refused(rota: RotaCommand, engine: ScriptedEngine, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    rota("plan", "restart", "hello", "-o", str(file))
    engine.failure = StalePlan("stale plan: the replicas were hello-1, and are hello-2")
    ended = rota("restart", "hello", "--plan", str(file))
    assert (ended.code, ended.err) == (1, "stale plan: the replicas were hello-1, and are hello-2\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "holds no plan; make one with: rota plan -o"),
        ("[]", "holds no plan"),
        ('{"steps": [], "basis": {}, "durations": {}, "order": null}', "holds no plan"),
    ],
)
def test_a_file_that_is_no_plan(tmp_path: Path, text: str | None, said: str) -> None:
    file = tmp_path / "plan.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=said):
        plan_file.attached(file, {"kind": "restart"})


def test_a_plan_that_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plan\.json cannot be written: No such file"):
        plan_file.save(tmp_path / "missing" / "plan.json", {})


def test_a_file_that_others_could_read_is_theirs_no_more(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    file.touch(mode=0o644)
    plan_file.save(file, {"steps": []})
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_scale_has_no_policy_to_take_over(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    plan_file.save(file, {"steps": [], "basis": {}, "durations": {}, "order": {"policy": {"delay": 1}}})
    order = plan_file.attached(file, {"kind": "scale", "replicas": 3})
    assert order == {"kind": "scale", "replicas": 3, "plan": {"steps": [], "basis": {}, "durations": {}}}
