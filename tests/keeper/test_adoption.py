"""A keeper may die at any moment: the next one finds what runs, and says what it cannot know."""

import json
import os
import signal
import subprocess

from .conftest import Keeper, order, running, until


def test_children_outlive_the_keeper_and_are_adopted(keeper: Keeper) -> None:
    client = keeper.connect()
    before = client.do("start", child=order("one", "sleep", "60", meta={"slot": 1}))["child"]
    keeper.kill()
    assert running(before["pid"])
    keeper.run()
    client = keeper.connect()
    (adopted,) = client.do("watch")["children"]
    assert adopted == before
    assert client.do("start", child=order("one", "sleep", "60"))["child"]["pid"] == before["pid"]
    assert client.do("signal", name="one", signal="TERM")["signalled"] == 1
    child = client.event("exited", "one")
    assert (child["exit_code"], child["signal"], child["exit_unknown"]) == (None, None, True)
    client.do("forget", name="one")


def test_sigterm_leaves_the_children(keeper: Keeper) -> None:
    pid = keeper.connect().do("start", child=order("one", "sleep", "60"))["child"]["pid"]
    assert keeper.end(signal.SIGTERM) == 0
    assert running(pid)


def test_what_ended_meanwhile_is_exited_and_the_rest_of_its_tree_killed(keeper: Keeper) -> None:
    client = keeper.connect()
    child = order("one", "/bin/sh", "-c", "setsid sleep 60 & sleep 60 & wait")
    pid = client.do("start", child=child)["child"]["pid"]
    until(lambda: len(keeper.pids()) == 3)
    keeper.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not running(pid))
    keeper.run()
    (found,) = keeper.connect().do("list")["children"]
    assert (found["state"], found["exit_unknown"]) == ("exited", True)
    until(lambda: keeper.pids() == [])


def test_a_marked_child_that_ended_meanwhile_is_restarted(keeper: Keeper) -> None:
    client = keeper.connect()
    pid = client.do("start", child=order("one", "sleep", "60", restart=True))["child"]["pid"]
    keeper.kill()
    os.kill(pid, signal.SIGKILL)
    until(lambda: not running(pid))
    keeper.run()
    until(lambda: keeper.connect().do("list")["children"][0]["state"] == "running")
    assert keeper.record("one")["restarts"] == 1


def _as_if_crashed(keeper: Keeper, name: str, **changes: object) -> None:
    record = {**keeper.record(name), **changes}
    path = keeper.directory / "keeper" / "children" / f"{name}.json"
    path.write_text(json.dumps(record))


_NO_RUN = {"state": "intended", "pid": None, "start_ticks": None, "started_at": None, "runs": []}


def test_an_intent_without_a_pid_finds_its_stray(keeper: Keeper) -> None:
    client = keeper.connect()
    child = order("one", "/bin/sh", "-c", "setsid sleep 60 & wait")
    pid = client.do("start", child=child)["child"]["pid"]
    until(lambda: len(keeper.pids()) == 2)
    keeper.kill()
    _as_if_crashed(keeper, "one", **_NO_RUN)
    keeper.run()
    (adopted,) = keeper.connect().do("list")["children"]
    assert (adopted["state"], adopted["pid"]) == ("running", pid)
    assert len(keeper.pids()) == 2


def test_an_intent_without_a_process_never_started(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("start", child=order("one", "/bin/true"))
    until(lambda: client.do("list")["children"][0]["state"] == "exited")
    keeper.kill()
    _as_if_crashed(keeper, "one", **_NO_RUN)
    keeper.run()
    (child,) = keeper.connect().do("list")["children"]
    assert (child["state"], child["error"]) == ("failed", "never started")


def test_a_record_of_an_earlier_boot_is_exited_and_left_alone(keeper: Keeper) -> None:
    """Its pid may be anybody's by now."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        try:
            client = keeper.connect()
            client.do("start", child=order("one", "/bin/true"))
            until(lambda: client.do("list")["children"][0]["state"] == "exited")
            keeper.kill()
            _as_if_crashed(keeper, "one", state="running", boot_id="another", pid=stranger.pid, restart=True)
            keeper.run()
            client = keeper.connect()
            (child,) = client.do("list")["children"]
            assert (child["state"], child["exit_unknown"]) == ("exited", True)
            client.do("signal", name="one", signal="KILL", tree=True)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_pid_that_is_anothers_by_now_is_not_touched(keeper: Keeper) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            client = keeper.connect()
            client.do("start", child=order("one", "/bin/true"))
            until(lambda: client.do("list")["children"][0]["state"] == "exited")
            keeper.kill()
            _as_if_crashed(keeper, "one", state="running", pid=stranger.pid, start_ticks=1)
            keeper.run()
            client = keeper.connect()
            assert client.do("list")["children"][0]["state"] == "exited"
            assert client.do("signal", name="one", signal="KILL", tree=True)["signalled"] == 0
            client.do("forget", name="one")
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_damaged_records_are_put_aside_and_named(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("start", child=order("good", "sleep", "60"))
    client.do("start", child=order("typed", "/bin/true"))
    until(lambda: client.do("list")["children"][1]["state"] == "exited")
    keeper.kill()
    directory = keeper.directory / "keeper" / "children"
    _as_if_crashed(keeper, "typed", pid="twelve")
    for name, content in {"empty": "", "list": "[]", "deep": "[" * 100_000, "other": '{"name": "x"}'}.items():
        (directory / f"{name}.json").write_text(content)
    (directory / "binary.json").write_bytes(b"\xff\x00")
    keeper.run()
    assert [one["name"] for one in keeper.connect().do("list")["children"]] == ["good"]
    assert len(list(directory.glob("*.corrupt"))) == 6
    assert keeper.process is not None
    keeper.process.terminate()
    _, said = keeper.process.communicate()
    assert said.count(b"rota keeper: ") == said.count(b"\n") == 6
    assert b"Traceback" not in said
