"""A machine that is switched off and on, as far as a server can tell: everything is killed and its records are of
another boot; used by end-to-end tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from pathlib import Path

from rota.testing.server import RunningServer, keeper_pid

OTHER_BOOT = "00000000-0000-4000-8000-000000000000"


async def switch_off(server: RunningServer) -> None:
    """Daemon, keeper, HAProxy and replicas end at once; ``server.start()`` is then the first of the next boot."""
    state = server.directory / "state"
    keeper, records = keeper_pid(state), list((state / "keeper/children").glob("*.json"))
    await server.kill()
    pids = [keeper, *(json.loads(record.read_text())["pid"] for record in records)]
    for pid in filter(None, pids):  # the keeper first: it would start HAProxy again
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    await server.until(lambda: _all_gone([pid for pid in pids if pid]))
    for record in [*records, state / "clock.json", state / "boot.json"]:
        if record.exists():
            _as_of_another_boot(record)


async def _all_gone(pids: list[int]) -> bool:
    return not any(map(_runs, pids))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def _as_of_another_boot(record: Path) -> None:
    kept = json.loads(record.read_text())
    record.write_text(json.dumps(kept | {"boot_id": OTHER_BOOT}))
