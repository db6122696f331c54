"""The maps of the running worker, brought to what the files hold by what differs alone; used by balancer.py.

A worker reads the files when it starts, which after a kill is at any time. So what it holds is known only while the
files hold the same: who writes them takes that knowledge first, and gives it back once the worker has confirmed."""

from __future__ import annotations

from collections.abc import Mapping

from rota.adapters.balancer.haproxy.worker import Haproxy

Texts = Mapping[str, str]
"""What each map holds, by its name; one that is not there is not known."""


class LiveMaps:
    def __init__(self, haproxy: Haproxy) -> None:
        self._haproxy = haproxy
        self._held: Texts = {}

    def take(self) -> Texts:
        """What the worker holds, before the files are written."""
        held, self._held = self._held, {}
        return held

    def keep(self, held: Texts, files: Texts) -> None:
        """The files are written, and the worker is told nothing yet."""
        self._held = {name: text for name, text in files.items() if held.get(name) == text}

    def started_on(self, files: Texts) -> None:
        """A worker has started, and read these."""
        self._held = files

    async def send(self, held: Texts, files: Texts) -> None:
        """The files are written: makes the worker hold the same, each map in one moment. Raises StepFailed."""
        for name, text in files.items():
            if held.get(name) != text and not await self._change_one(name, held.get(name), text):
                await self._haproxy.replace_map(name, text)
        self._held = files

    async def _change_one(self, name: str, held: str | None, text: str) -> bool:
        """One entry that differs is one command, and done in one moment as well; False for more, or where HAProxy holds
        something else: it was killed, and has read the file already."""
        line = _command(name, _entries(held), _entries(text)) if held is not None else None
        return line is not None and not (await self._haproxy.tell(line, accept=("",))).strip()


def _entries(text: str) -> set[tuple[str, str]]:
    split = (line.partition(" ") for line in text.splitlines())
    return {(key, value) for key, _, value in split}


def _command(name: str, before: set[tuple[str, str]], after: set[tuple[str, str]]) -> str | None:
    """None where two keys differ: a request could come between two commands. An entry that is added and there already
    is there twice, which HAProxy reads, sets and deletes as one."""
    gone, come = dict(before - after), dict(after - before)
    if len(gone.keys() | come.keys()) != 1:
        return None
    ((key, value),) = (come or gone).items()
    if not come:
        return f"del map {name} {key}"
    return f"{'set' if gone else 'add'} map {name} {key} {value}"
