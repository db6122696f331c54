"""A load run in a process of its own, so that its rate does not depend on the caller's event loop."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import fields
from pathlib import Path
from types import TracebackType

import rota
from rota.testing.load.plan import LoadPlan
from rota.testing.load.report import LoadReport

STARTED = "started"
MAX_REPORT_BYTES = 4 * 1024 * 1024


class LoadProcessError(Exception):
    """The generator's process ended without a report."""


class LoadProcess:
    """`async with LoadProcess(plan) as load: await load.wait_started(); …; report = await load.stop()`.

    The process ends with the context at the latest; it also ends when this process dies (its standard input
    closes).
    """

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._report: LoadReport | None = None

    async def __aenter__(self) -> "LoadProcess":
        self._process: Process = await asyncio.create_subprocess_exec(
            *command(self._plan), stdin=PIPE, stdout=PIPE, env=_environment(), limit=MAX_REPORT_BYTES
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    @property
    def pid(self) -> int:
        """The generator's process id."""
        return self._process.pid

    async def wait_started(self, timeout: float = 10.0) -> None:
        """Wait until the first right answer came. Raises TimeoutError or LoadProcessError."""
        line = await self._line(timeout)
        if line != STARTED:
            # A run without one right answer has nothing to say but its report.
            self._report = self._parse(line)
            raise LoadProcessError(f"no right answer: {self._report.summary()}")

    async def wait_finished(self, timeout: float) -> LoadReport:
        """Wait for the end of a plan that has one. Raises TimeoutError or LoadProcessError."""
        async with asyncio.timeout(timeout):
            while self._report is None:
                line = await self._line(timeout)
                if line != STARTED:
                    self._report = self._parse(line)
            await self._process.wait()
        return self._report

    async def stop(self, timeout: float = 30.0) -> LoadReport:
        """Send no more, wait for the open requests, and return the report; again: the same report.

        Raises TimeoutError or LoadProcessError.
        """
        assert self._process.stdin is not None
        self._process.stdin.close()
        return await self.wait_finished(timeout)

    async def _line(self, timeout: float) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(timeout):
            return (await self._process.stdout.readline()).decode().strip()

    def _parse(self, line: str) -> LoadReport:
        try:
            return LoadReport.from_json(line)
        except (ValueError, KeyError, TypeError) as error:
            raise LoadProcessError(f"no report but {line[:200]!r}") from error


def command(plan: LoadPlan) -> list[str]:
    """The command line that carries out a plan, under the control of its standard input."""
    words = [sys.executable, "-m", "rota.testing.load", "--json", "--controlled"]
    for each in fields(plan):
        value = getattr(plan, each.name)
        if value is not None:
            words += [f"--{each.name.replace('_', '-')}={value}"]
    return words


def _environment() -> dict[str, str]:
    source = str(Path(rota.__file__).parent.parent)
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{inherited}" if inherited else source}
