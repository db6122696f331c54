"""The load generator against the example app: each arrival is counted once, and lateness is told."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from rota.testing.load import (
    Count,
    LoadPlan,
    LoadProcess,
    LoadProcessError,
    LoadReport,
    LoadRun,
    PathKind,
    WebSocketReport,
    run_load,
)
from rota.testing.load.plan import requests

from .conftest import StartHello


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)


def sockets(run: LoadRun) -> WebSocketReport:
    report = run.report.websockets
    assert report is not None
    return report


async def test_a_run_counts_each_arrival_once_and_loses_none(start_hello: StartHello) -> None:
    plan = LoadPlan(start_hello().url, rate=200, seconds=2, slow_seconds=0.2, slow_share=0.1)
    report = await run_load(plan)
    assert (report.requests, report.ok, report.lost, report.own_errors) == (400, 400, 0, 0), report.samples
    for split in (report.by_method, report.by_path, report.by_connection):
        assert sum(count.ok for count in split.values()) == 400
    assert report.by_release == {"7": 400}
    assert report.by_replica["r1"].answers == 400
    assert report.latency["slow"].p50 >= 200
    assert report.longest_gap_ms > 0


async def test_the_mix_is_the_planned_one(start_hello: StartHello) -> None:
    plan = LoadPlan(start_hello().url, rate=300, seconds=1, slow_share=0, seed=4)
    report = await run_load(plan)
    sent = [request for request, _ in zip(requests(plan), range(300), strict=False)]
    posts = sum(request.method == "POST" for request in sent)
    assert report.by_method == {"GET": Count(300 - posts), "POST": Count(posts)}
    assert "slow" not in report.by_path
    new = sum(request.new for request in sent)
    # The first requests on kept connections open them.
    assert 0 < report.by_connection["kept"].ok <= 300 - new - plan.kept


def test_the_same_seed_gives_the_same_requests() -> None:
    first, again, other = (
        [next(stream) for _ in range(50)]
        for stream in (requests(LoadPlan("http://127.0.0.1", seed=seed)) for seed in (1, 1, 2))
    )
    assert first == again != other
    assert {request.kind for request in first} == set(PathKind)


async def test_a_run_without_an_end_is_stopped_and_waits_for_open_requests(start_hello: StartHello) -> None:
    plan = LoadPlan(start_hello().url, rate=50, slow_share=1, post_share=0, slow_seconds=0.5)
    async with LoadRun(plan) as run:
        await run.wait_started()
        report = await run.stop()
        assert report.requests == run.arrivals == report.ok > 0
        assert await run.stop() == report


async def test_what_is_open_at_the_deadline_counts_as_timed_out(start_hello: StartHello) -> None:
    plan = LoadPlan(start_hello().url, rate=50, slow_share=0.5, post_share=0, slow_seconds=30)
    async with LoadRun(plan) as run:
        await run.wait_started()
        await until(lambda: run.arrivals >= 20)
        report = await run.stop(deadline=0.1)
    assert report.requests == run.arrivals
    assert report.kinds == {"timeout": report.by_path["slow"].lost}
    assert report.by_path["fast"].lost == 0


async def test_a_generator_that_stalls_is_invalid_and_loses_nothing(start_hello: StartHello) -> None:
    async with LoadRun(LoadPlan(start_hello().url, rate=100, seconds=1.5, slow_share=0)) as run:
        await run.wait_started()
        time.sleep(0.5)  # noqa: ASYNC251 - stalls the event loop, which is what is tested
        await run.wait_finished()
        report = await run.stop()
    assert (report.requests, report.lost) == (150, 0), report.samples
    assert not report.valid
    assert "lateness" in report.summary()


async def test_held_websockets_echo_and_their_end_is_counted_apart(start_hello: StartHello) -> None:
    hello = start_hello()
    async with LoadRun(LoadPlan(hello.url, rate=20, websockets=3, new_share=1)) as run:
        await until(lambda: sockets(run).echoed >= 6)
        hello.process.terminate()
        await until(lambda: sockets(run).closed >= 3)
        report = await run.stop()
    assert report.websockets is not None
    assert (report.websockets.opened, report.websockets.wrong) == (3, 0)
    assert len(report.websockets.closed_at) == report.websockets.closed == 3
    assert set(report.kinds) <= {"refused", "closed", "reset"}


async def test_a_process_of_its_own_starts_stops_and_reports(start_hello: StartHello) -> None:
    plan = LoadPlan(start_hello().url, rate=100, slow_seconds=0.1, host="hello.localhost", websockets=1)
    async with LoadProcess(plan) as load:
        await load.wait_started()
        time.sleep(0.5)  # noqa: ASYNC251 - our stalled loop must not make the run late
        report = await load.stop()
        assert await load.stop() == report
    assert report.requests == report.ok >= 40
    assert report.lateness.p50 < 250, report.summary()  # half of our own loop's pause


async def test_a_process_whose_plan_ends_reports_by_itself(start_hello: StartHello) -> None:
    async with LoadProcess(LoadPlan(start_hello().url, rate=100, seconds=0.5, slow_share=0)) as load:
        report = await load.wait_finished(timeout=20)
    assert (report.requests, report.ok) == (50, 50)


async def test_a_process_that_was_never_answered_says_so() -> None:
    async with LoadProcess(LoadPlan("http://127.0.0.1:1", rate=100, seconds=0.2)) as load:
        with pytest.raises(LoadProcessError, match="20 refused"):
            await load.wait_started(timeout=20)
        assert (await load.stop()).kinds == {"refused": 20}


async def test_a_killed_process_is_an_error(start_hello: StartHello) -> None:
    async with LoadProcess(LoadPlan(start_hello().url)) as load:
        await load.wait_started()
        os.kill(load.pid, signal.SIGKILL)
        with pytest.raises(LoadProcessError):
            await load.stop()


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rota.testing.load", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_command_prints_a_line_or_json_and_its_exit_code_tells_of_losses(start_hello: StartHello) -> None:
    url = start_hello().url
    few = ("--rate", "50", "--seconds", "0.5", "--slow-share", "0")
    shown = run_command("--url", url, *few)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert shown.stdout.startswith("25 requests, 0 lost, p50 ")
    shown = run_command("--url", "http://127.0.0.1:1", *few, "--json")
    assert shown.returncode == 1
    assert json.loads(shown.stdout)["kinds"] == {"refused": 25}
    assert LoadReport.from_json(shown.stdout).to_json() == shown.stdout.strip()


def test_sigterm_makes_the_command_report(start_hello: StartHello) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "rota.testing.load", "--url", start_hello().url, "--json", "--controlled"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.terminate()
        report = LoadReport.from_json(process.stdout.readline())
        assert process.wait(20) == 0
    assert report.lost == 0 < report.ok


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--url=https://x", "must be http://"),
        ("--rate=0", "the rate must be"),
        ("--new-share=2", "new_share must be"),
        ("--slow-share=0.9", "more than 1 together"),
        ("--seconds=0", "must be over 0"),
    ],
)
def test_an_impossible_plan_is_a_usage_error(option: str, message: str) -> None:
    shown = run_command("--url=http://127.0.0.1:1", option)
    assert shown.returncode == 2
    assert message in shown.stderr
