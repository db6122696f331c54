"""Children are started once, ended whole, and every way they end is known."""

import os
import pwd
import signal
import statistics
import sys
import time
from datetime import datetime
from pathlib import Path

import pytest

from rota.keeper.log import rotate

from .conftest import Keeper, order, python, running, until

_GRANDCHILD = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
        os.rename(sys.argv[1] + ".new", sys.argv[1])
        time.sleep(60)
    os._exit(0)
os.wait()
time.sleep(60)
"""


def _pid_in(path: Path) -> int:
    until(path.exists)
    return int(path.read_text())


@pytest.mark.parametrize(
    ("program", "exit_code", "signum"),
    [("exit 0", 0, None), ("exit 7", 7, None), ("kill -KILL $$", None, 9), ("kill -SEGV $$", None, 11)],
)
def test_how_a_child_ended_is_told_and_on_disk(
    keeper: Keeper, program: str, exit_code: int | None, signum: int | None
) -> None:
    client = keeper.connect()
    client.do("watch")
    client.do("start", child=order("one", "/bin/sh", "-c", program))
    child = client.event("exited", "one")
    assert (child["state"], child["exit_code"], child["signal"]) == ("exited", exit_code, signum)
    assert child["exit_unknown"] is False
    assert child["runs"][-1]["exited_at"] >= child["runs"][-1]["started_at"]
    until(lambda: keeper.record("one")["state"] == "exited")
    assert keeper.record("one")["exit_code"] == exit_code


def test_a_child_gets_its_environment_and_directory_and_nothing_else(keeper: Keeper) -> None:
    log = keeper.directory / "log"
    program = "import os; print(sorted(os.environ), os.getcwd(), sorted(os.listdir('/proc/self/fd')))"
    client = keeper.connect()
    client.do("watch")
    child = python("one", program, cwd="/usr", log=str(log))
    child["env"] = {"PATH": "/bin", "GREETING": "hé", "LC_CTYPE": "C.UTF-8"}
    client.do("start", child=child)
    assert client.event("exited", "one")["exit_code"] == 0
    names, rest = log.read_text().split("] ", 1)
    assert names == "['GREETING', 'LC_CTYPE', 'PATH', 'ROTA_CHILD', 'ROTA_KEEPER'"
    assert rest == "/usr ['0', '1', '2', '3']\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_child_has_a_session_and_the_signals_of_its_own(keeper: Keeper) -> None:
    client = keeper.connect()
    pid = client.do("start", child=order("one", "sleep", "60"))["child"]["pid"]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert os.getsid(pid) == pid
    assert int(status["SigIgn"], 16) == int(status["SigBlk"], 16) == 0
    assert status["Umask"] == "0022"


def test_start_is_idempotent_and_refuses_another_order(keeper: Keeper) -> None:
    client = keeper.connect()
    first = client.do("start", child=order("one", "sleep", "60", meta={"slot": 1}))["child"]
    again = client.do("start", child=order("one", "sleep", "60"))["child"]
    assert (again["pid"], again["meta"]) == (first["pid"], {"slot": 1})
    other = client.ask("start", child=order("one", "sleep", "61"))
    assert other["error"]["code"] == "alive"
    assert len(keeper.pids()) == 1


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"argv": ["/no/such/program"]}, "/no/such/program: No such file or directory"),
        ({"argv": ["no-such-program"]}, "no-such-program: No such file or directory"),
        ({"argv": ["/etc/passwd"]}, "/etc/passwd: Permission denied"),
        ({"argv": ["sleep", "1"], "cwd": "/no/such/place"}, "/no/such/place: No such file or directory"),
        ({"argv": ["sleep", "1"], "user": "no-such-user"}, "user 'no-such-user': no such user"),
        ({"argv": ["sleep", "1"], "log": "/no/such/log"}, "/no/such/log: No such file or directory"),
        (
            {"argv": ["sleep", "1"], "cgroups": ["/no/such"]},
            "/no/such/cgroup.procs: No such file or directory",
        ),
    ],
)
def test_what_could_not_be_executed_is_named(keeper: Keeper, fields: dict[str, object], text: str) -> None:
    client = keeper.connect()
    reply = client.ask("start", child={**order("one", "-"), **fields})
    assert reply["error"] == {"code": "exec-failed", "message": text}
    record = keeper.record("one")
    assert (record["state"], record["error"], record["pid"]) == ("failed", text, None)
    assert keeper.pids() == []
    client.do("start", child=order("one", "sleep", "60"))


def test_a_script_without_its_interpreter_says_so(keeper: Keeper) -> None:
    script = keeper.directory / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o700)
    message = keeper.connect().ask("start", child=order("one", str(script)))["error"]["message"]
    assert "interpreter" in message


def test_a_child_can_run_as_another_user(keeper: Keeper) -> None:
    """As root it drops to nobody; without root the kernel's refusal is the answer."""
    reply = keeper.connect().ask("start", child=order("one", "sleep", "60", user="nobody"))
    if os.geteuid() != 0:
        assert reply["error"]["code"] == "exec-failed"
        return
    status = Path(f"/proc/{reply['child']['pid']}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    account = pwd.getpwnam("nobody")
    assert fields["Uid"].split() == [str(account.pw_uid)] * 4
    assert fields["Gid"].split() == [str(account.pw_gid)] * 4
    assert "0" not in fields["Groups"].split()


def test_the_whole_tree_ends_with_its_main_process(keeper: Keeper) -> None:
    """A grandchild of a double fork in a session of its own is found by the marks in its environment."""
    file = keeper.directory / "grandchild"
    client = keeper.connect()
    child = python("one", _GRANDCHILD)
    child["argv"].append(str(file))
    pid = client.do("start", child=child)["child"]["pid"]
    grandchild = _pid_in(file)
    client.do("start", child=order("bystander", "sleep", "60"))
    os.kill(pid, signal.SIGKILL)
    until(lambda: not running(grandchild))
    # An orphan is the keeper's to reap: not even a zombie stays.
    until(lambda: not Path(f"/proc/{grandchild}").exists())
    assert [one["name"] for one in client.do("list")["children"] if one["state"] == "running"] == ["bystander"]


def _cgroup() -> Path | None:
    for parent in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/pids"):
        if os.access(f"{parent}/cgroup.procs", os.W_OK):
            directory = Path(parent, f"rota-test-{os.getpid()}")
            directory.mkdir()
            return directory
    return None


def test_the_whole_tree_ends_by_its_cgroup(keeper: Keeper) -> None:
    """It holds even those that cleared their environment; where none is writable, none can be joined."""
    directory = _cgroup()
    client = keeper.connect()
    if directory is None:
        reply = client.ask("start", child=order("one", "sleep", "60", cgroups=["/sys/fs/cgroup"]))
        assert reply["error"]["code"] == "exec-failed"
        return
    try:
        file = keeper.directory / "grandchild"
        program = "import os, sys; os.execve(sys.executable, [sys.executable, '-c', *sys.argv[1:]], {})"
        child = python("one", program, cgroups=[str(directory)])
        child["argv"] += [_GRANDCHILD, str(file)]
        pid = client.do("start", child=child)["child"]["pid"]
        grandchild = _pid_in(file)
        until(lambda: len((directory / "cgroup.procs").read_text().split()) == 2)  # the one between them has ended
        assert client.do("signal", name="one", signal="CONT", tree=True)["signalled"] == 2
        assert str(grandchild) in (directory / "cgroup.procs").read_text().split()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not running(grandchild))
    finally:
        until(lambda: not (directory / "cgroup.procs").read_text().split())
        directory.rmdir()


def test_the_keepers_own_cgroup_is_never_killed(keeper: Keeper) -> None:
    """A child told to join the cgroup that the keeper is in ends alone."""
    entries = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    roots = {"": "/sys/fs/cgroup/unified" if Path("/sys/fs/cgroup/unified").is_dir() else "/sys/fs/cgroup"}
    own = [roots[""] + path for _, controllers, path in entries if controllers == ""]
    shared = [path for path in own if os.access(f"{path}/cgroup.procs", os.W_OK)]
    client = keeper.connect()
    client.do("watch")
    client.do("start", child=order("one", "sleep", "60", cgroups=shared))
    client.do("start", child=order("two", "sleep", "60", cgroups=shared))
    assert client.do("signal", name="one", signal="KILL", tree=True)["signalled"] == 1
    client.event("exited", "one")
    client.do("forget", name="one")
    assert [one["state"] for one in client.do("list")["children"]] == ["running"]


def test_signal_reaches_main_or_tree(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("watch")
    client.do("start", child=order("one", "/bin/sh", "-c", "sleep 60 & sleep 60 & exec sleep 60"))
    until(lambda: len(keeper.pids()) == 3)
    assert client.do("signal", name="one", signal="CONT")["signalled"] == 1
    assert client.do("signal", name="one", signal="SIGTERM", tree=True)["signalled"] == 3
    assert client.event("exited", "one")["signal"] == signal.SIGTERM
    assert client.do("signal", name="one", signal="TERM")["signalled"] == 0
    assert client.ask("signal", name="two", signal="TERM")["error"]["code"] == "unknown"
    assert client.ask("signal", name="one", signal="NOPE")["error"]["code"] == "bad-request"


def test_restart_counts_and_takes_changes(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("watch")
    client.do("start", child=order("one", "/bin/sh", "-c", "exit 3"))
    client.event("exited", "one")
    child = client.do("restart", name="one", argv=["sleep", "60"], meta={"release": 2})["child"]
    assert (child["state"], child["restarts"], child["meta"]) == ("running", 1, {"release": 2})
    assert [run["exit_code"] for run in child["runs"]] == [3, None]
    assert child["exit_code"] is None
    assert client.ask("restart", name="one")["error"]["code"] == "alive"
    assert client.ask("restart", name="two")["error"]["code"] == "unknown"
    assert client.ask("restart", name="one", cwd="/")["error"]["code"] == "bad-request"


def test_forget_only_the_dead_and_its_tree_is_gone_then(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("watch")
    client.do("start", child=order("one", "/bin/sh", "-c", "sleep 60 & sleep 60"))
    assert client.ask("forget", name="one")["error"]["code"] == "alive"
    client.do("signal", name="one", signal="KILL")
    client.event("exited", "one")
    client.do("forget", name="one")
    assert keeper.pids() == []
    client.event("forgotten", "one")
    assert client.do("list")["children"] == []
    assert list((keeper.directory / "keeper" / "children").iterdir()) == []
    client.do("forget", name="one")


def test_update_replaces_meta_durably(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("watch")
    client.do("start", child=order("one", "sleep", "60", meta={"a": 1}))
    client.do("update", name="one", meta={"b": [2]})
    assert client.event("updated", "one")["meta"] == {"b": [2]}
    assert keeper.record("one")["meta"] == {"b": [2]}
    assert client.ask("update", name="one", meta=3)["error"]["code"] == "bad-request"


def test_a_marked_child_is_restarted_and_the_rest_of_its_tree_killed_first(keeper: Keeper) -> None:
    """As a HAProxy worker outlives its master: what holds the port is gone before the next run binds it."""
    program = (
        "import os, socket, time\n"
        "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "s.bind(('127.0.0.1', int(os.environ['PORT']))); s.listen()\n"
        "os.fork(); time.sleep(60)"
    )
    client = keeper.connect()
    client.do("watch")
    child = python("one", program, restart=True)
    child["env"]["PORT"] = str(_free_port())
    first = client.do("start", child=child)["child"]
    until(lambda: len(keeper.pids()) == 2)
    os.kill(first["pid"], signal.SIGKILL)
    assert client.event("exited", "one")["signal"] == 9
    second = client.event("started", "one")
    assert second["pid"] != first["pid"]
    assert (second["restarts"], [run["signal"] for run in second["runs"]]) == (1, [9, None])
    until(lambda: len(keeper.pids()) == 2)
    assert running(second["pid"])
    client.do("signal", name="one", signal="TERM", restart=False)
    client.event("exited", "one")
    until(lambda: keeper.pids() == [])
    client.do("forget", name="one")


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def test_restarts_of_a_child_that_does_not_stay_back_off(keeper: Keeper) -> None:
    client = keeper.connect()
    client.do("watch")
    client.do("start", child=order("one", "/bin/sh", "-c", "exit 1", restart=True))
    started = [datetime.fromisoformat(client.event("started", "one")["started_at"]) for _ in range(4)]
    # Immediately, then 50, 100, 200 ms: never sooner than that, by the keeper's own record of whole milliseconds.
    assert (started[3] - started[1]).total_seconds() >= 0.05 + 0.1 - 0.001
    assert client.ask("shutdown")["error"]["code"] == "children-alive"
    client.do("signal", name="one", signal="KILL", restart=False)
    until(lambda: client.ask("shutdown")["ok"])


def test_a_restart_that_fails_is_tried_again(keeper: Keeper) -> None:
    program = keeper.directory / "program"
    program.symlink_to("/bin/sleep")
    client = keeper.connect()
    client.do("watch")
    pid = client.do("start", child=order("one", str(program), "60", restart=True))["child"]["pid"]
    program.unlink()
    os.kill(pid, signal.SIGKILL)
    assert str(program) in client.event("failed", "one")["error"]
    program.symlink_to("/bin/sleep")
    assert running(client.event("started", "one")["pid"])


def test_a_log_is_rotated_while_its_writer_goes_on(stopped: Keeper) -> None:
    stopped.run(ROTA_LOG_LIMIT="20000")
    log = stopped.directory / "log"
    program = "import time\nfor i in range(10**6): print(i, 'x' * 90, flush=True); time.sleep(0.005)"
    client = stopped.connect()
    client.do("start", child=python("one", program, log=str(log)))
    second = log.with_name("log.2")
    until(second.exists)
    until(lambda: log.stat().st_size > 0)
    assert log.read_bytes()[0] != 0, "the writer went on where it was, leaving a hole"
    lines = (second.read_text() + log.with_name("log.1").read_text()).splitlines()
    assert lines[0].split()[0] == "0"
    numbers = [int(line.split()[0]) for line in lines[:-1]]
    assert numbers == sorted(set(numbers))
    assert log.with_name("log.1").stat().st_mode & 0o777 == 0o600


def test_the_log_of_a_writer_that_does_not_append_is_rotated_by_what_it_holds(tmp_path: Path) -> None:
    """HAProxy turns appending off, and goes on where it was when its log was cut."""
    log = tmp_path / "log"
    writer = os.open(log, os.O_WRONLY | os.O_CREAT)
    os.write(writer, b"a" * 20_000)
    assert rotate(log, 10_000)
    assert not rotate(log, 10_000)
    os.write(writer, b"b" * 100)
    assert not rotate(log, 10_000)
    os.write(writer, b"b" * 20_000)
    assert rotate(log, 10_000)
    os.close(writer)
    assert log.with_name("log.1").read_bytes().strip(b"\0") == b"b" * 20_100
    assert log.with_name("log.2").read_bytes() == b"a" * 20_000


def test_exit_latency_is_printed(keeper: Keeper, capsys: pytest.CaptureFixture[str]) -> None:
    client, watcher = keeper.connect(), keeper.connect()
    watcher.do("watch")
    waits = []
    for number in range(30):
        pid = client.do("start", child=order(f"r{number}", "sleep", "60"))["child"]["pid"]
        killed = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert watcher.event("exited", f"r{number}")["signal"] == 9
        waits.append((time.monotonic() - killed) * 1000)
    with capsys.disabled():
        print(
            f"\nkill to exit event: median {statistics.median(waits):.2f} ms, longest {max(waits):.2f} ms",
            file=sys.stderr,
        )
