"""What a person at a terminal sees while a rollout goes on: a bar with the time left, the replicas with their phases,
and the events above them; the one user of rich's live display."""

from __future__ import annotations

import threading
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from rota.cli import wording
from rota.cli.connection import Connection, View, quoted
from rota.core.errors import RotaError

_REFRESH_SECONDS = 0.5
_COLOURS = {"ready": "green", "draining": "yellow", "stopping": "yellow", "failed": "red"}


class Progress:
    """Events come from the caller; how far it is, and the replicas, are asked for by a thread of its own."""

    def __init__(self, connection: Connection, rollout: View) -> None:
        self._connection = connection
        self._rollout = rollout
        self._console = Console(stderr=True, highlight=False)
        left = TextColumn("{task.fields[left]}")
        self._bar = Bar(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), left)
        self._task = self._bar.add_task(f"{rollout['id']} {rollout['kind']}", total=None, left="")
        self._live = Live(self._bar, console=self._console, refresh_per_second=8, transient=True)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True)

    def __enter__(self) -> Progress:
        self._live.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._live.stop()

    def event(self, event: View) -> None:
        text = wording.event(event)
        if text is not None:
            self.notice(text)

    def notice(self, text: str) -> None:
        self._console.print(Text(text))  # what is printed without markup takes it from the live part too

    def _refresh(self) -> None:
        while not self._ended.is_set():
            with suppress(RotaError):  # the caller's own stream notices a lost server, and says so
                self._show()
            self._ended.wait(_REFRESH_SECONDS)

    def _show(self) -> None:
        view = self._connection.get(f"/api/v1/rollouts/{quoted(self._rollout['id'])}")
        replicas = self._connection.get(f"/api/v1/apps/{quoted(self._rollout['app'])}/replicas")["replicas"]
        progress = view.get("progress") or {"done": 0, "of": None}
        left = wording.time_left(progress)
        self._bar.update(self._task, completed=progress["done"], total=progress["of"], left=left)
        if not self._ended.is_set():
            self._live.update(Group(self._bar, _replicas(replicas)))


def _replicas(replicas: list[View]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    for replica in sorted(replicas, key=lambda entry: (entry["slot"], entry["id"])):
        phase = replica["phase"]
        requests = f"{replica['open']} open" if phase == "draining" else ""
        if phase == "ready" and replica.get("dns") == "withdrawn":
            requests = "out of DNS, waiting for caches"
        table.add_row(f"  {replica['slot']}", replica["id"], Text(phase, _COLOURS.get(phase, "")), requests)
    return table
