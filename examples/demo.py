"""The demo: three replicas of examples/hello under load, restarted and redeployed with no request lost.

Run by bin/demo; ``--keep`` leaves everything up and says where."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
from pathlib import Path

from rota.testing.load import LoadPlan, LoadProcess
from rota.testing.server import RunningServer

HELLO = Path(__file__).parent / "hello"
RATE = 300  # requests a second


def main() -> int:
    parser = argparse.ArgumentParser(prog="bin/demo", description=__doc__.splitlines()[0])
    parser.add_argument("--keep", action="store_true", help="leave the server and the app running and print the URLs")
    return asyncio.run(_show(parser.parse_args().keep))


async def _show(keep: bool) -> int:
    server = RunningServer()
    try:
        await server.start()
        lost, requests = await _roll(server)
        if keep:
            _say_where(server)
    finally:
        if not keep:
            await server.end()
    sys.stdout.write(f"demo: {requests} requests, {lost} lost\n")
    return 1 if lost or not requests else 0


async def _roll(server: RunningServer) -> tuple[int, int]:
    """A deploy, then under load a rolling restart and a rolling deploy; returns what was lost, by the users' count or
    by the receipts', whichever is more, and of how many."""
    source = server.directory / "hello"
    shutil.copytree(HELLO, source)
    _head("rota deploy, the first release with 3 replicas")
    _show_out((await server.ok("deploy", cwd=source)).out)
    plan = LoadPlan(url=server.url, host="hello.localhost", rate=RATE, slow_seconds=1.0, slow_share=0.05)
    async with LoadProcess(plan) as load:
        await load.wait_started()
        _head(f"rota restart hello, at {RATE} requests/s")
        _show_out((await server.ok("restart", "hello")).out)
        _head(f"rota deploy, a new version, at {RATE} requests/s")
        file = source / "rota.yaml"
        file.write_text(file.read_text().replace('value: "1"', 'value: "2"'))
        _show_out((await server.ok("deploy", cwd=source)).out)
        report = await load.stop()
    _head("what the users' side counted")
    sys.stdout.write(f"{report.summary()}\n\n")
    rollouts = (await server.get("/api/v1/rollouts?app=hello&limit=10"))["rollouts"]
    failed = sum(rollout["receipt"]["failed"] for rollout in rollouts)
    return max(report.lost, failed), report.requests


def _head(text: str) -> None:
    sys.stdout.write(f"== {text}\n")
    sys.stdout.flush()


def _show_out(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _say_where(server: RunningServer) -> None:
    sys.stdout.write(
        f"the app:     curl -H 'Host: hello.localhost' {server.url}/\n"
        f"the server:  export ROTA_SERVER={server.api} ROTA_DATA_DIR={server.directory / 'state'}\n"
        "to look:     .venv/bin/rota status\n"
        "to stop it:  .venv/bin/rota shutdown\n"
    )


if __name__ == "__main__":
    sys.exit(main())
