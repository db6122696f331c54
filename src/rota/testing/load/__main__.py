"""`python -m rota.testing.load`: a load run from a shell; LoadProcess and the demo start it."""

import argparse
import asyncio
import contextlib
import gc
import os
import resource
import signal
import sys
from dataclasses import MISSING, fields

from rota.testing.load.plan import LoadPlan
from rota.testing.load.process import STARTED
from rota.testing.load.report import LoadReport
from rota.testing.load.run import LoadRun

EXIT_OK, EXIT_LOST, EXIT_USAGE, EXIT_INVALID = 0, 1, 2, 3
_TYPES = {
    "url": str,
    "host": str,
    "fast_path": str,
    "fast_prefix": str,
    "kept": int,
    "websockets": int,
    "seed": int,
}


def main(arguments: list[str] | None = None) -> int:
    """Run until --seconds are over, SIGTERM or SIGINT; 0: nothing lost, 1: lost, 2: usage, 3: invalid run."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    as_json, controlled = options.pop("json"), options.pop("controlled")
    try:
        plan = LoadPlan(**options)
    except ValueError as error:
        parser.error(str(error))
    _raise_file_limit()
    _come_first()
    # What is loaded by now stays: collections during the run need not look at it.
    gc.freeze()
    try:
        report = asyncio.run(_run(plan, controlled))
    except OSError as error:
        sys.stderr.write(f"{plan.url}: {error}\n")
        return EXIT_INVALID
    sys.stdout.write((report.to_json() if as_json else report.summary()) + "\n")
    if not report.valid:
        return EXIT_INVALID
    return EXIT_LOST if report.lost else EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rota.testing.load",
        description="Sends requests at a fixed rate and counts how each one ended.",
        epilog="Example: %(prog)s --url http://127.0.0.1:8080 --host hello.localhost --seconds 10",
    )
    for each in fields(LoadPlan):
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=_TYPES.get(each.name, float),
            required=each.default is MISSING,
            default=None if each.default is MISSING else each.default,
        )
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.add_argument(
        "--controlled",
        action="store_true",
        help=f"print '{STARTED}' at the first right answer; stop when standard input says or ends",
    )
    return parser


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _come_first() -> None:
    """Before what it measures, where that is allowed: a generator that has to wait for a core shows nothing. A better
    nice value is not enough: with one it waited for the end of others' turns (p99 200 ms on a busy machine)."""
    with contextlib.suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(os.sched_get_priority_min(os.SCHED_RR)))


async def _run(plan: LoadPlan, controlled: bool) -> LoadReport:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if controlled:
        loop.add_reader(sys.stdin.fileno(), _read_control, loop, stopped)
    async with LoadRun(plan) as run:
        announcement = asyncio.create_task(_announce(run)) if controlled else None
        ends = [asyncio.create_task(stopped.wait()), asyncio.create_task(run.wait_finished())]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        report = await run.stop()
        for task in [*ends, *([announcement] if announcement else [])]:
            task.cancel()
    return report


async def _announce(run: LoadRun) -> None:
    await run.wait_started(timeout=float("inf"))
    sys.stdout.write(f"{STARTED}\n")
    sys.stdout.flush()


def _read_control(loop: asyncio.AbstractEventLoop, stopped: asyncio.Event) -> None:
    """Any line and the end of standard input both mean stop."""
    os.read(sys.stdin.fileno(), 4096)
    loop.remove_reader(sys.stdin.fileno())
    stopped.set()


if __name__ == "__main__":
    sys.exit(main())
