"""A command beside a process replica: as its user, in its directory, with its environment and in its control group;
fulfils the Exec port.

The daemon is its parent, not the keeper: a check every two seconds is not worth a record on disk, and one that a crash
of the daemon leaves behind carries the replica's marks and ends with it."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rota.adapters.cgroupfiles import members
from rota.adapters.keeper.client import Child, ChildOrder, Children
from rota.adapters.runtime.command import with_port
from rota.adapters.runtime.marked import Mark, end
from rota.adapters.runtime.output import Output
from rota.adapters.runtime.process.labels import ports_in
from rota.adapters.runtime.process.layout import account
from rota.adapters.runtime.process.tree import processes, tree_of
from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.ports.exec import MOST_OUTPUT, Ran

_WAIT_FOR_GROUP = 'read -r _ && exec "$@" </dev/null'  # the daemon has put it into the group before it says go
_PIECE = 65536
_AT_FULL_SPEED = 16 * 2**20  # bytes of output; from then on a command is read so slowly that it costs next to nothing
_SLOW = 0.02  # seconds between two pieces


class ProcessExec:
    def __init__(self, children: Children) -> None:
        self._children = children

    async def run(
        self, replica: ReplicaId, command: Sequence[str], timeout: float, most_output: int = MOST_OUTPUT
    ) -> Ran:
        child = self._children.known.get(replica)
        if child is None or not child.alive or "rota.port" not in child.meta:
            raise StepFailed(f"{replica} does not run")
        order = await asyncio.to_thread(self._children.order_of, replica)
        run = _Run(child, order, with_port(command, int(child.meta["rota.port"]), ports_in(child.meta)), most_output)
        code: int | None = None
        try:
            async with asyncio.timeout(timeout):
                code = await run.ended()
        except TimeoutError:
            pass
        finally:
            await asyncio.shield(asyncio.create_task(run.end(by_force=code is None)))
        return run.output.ran(code)


class _Run:
    """From its start until ``end``, whatever comes between."""

    def __init__(self, child: Child, order: ChildOrder, command: Sequence[str], most_output: int) -> None:
        """Raises StepFailed when it cannot be started."""
        self.output = Output(most_output)
        self._mark = Mark()
        self._groups = tuple(child.cgroups)
        self._loop = asyncio.get_running_loop()
        self._has_ended = asyncio.Event()
        self._reading, writing = os.pipe()
        os.set_blocking(self._reading, False)
        try:
            self._process = _started(order, {**order.env, **self._mark.variables}, command, writing)
        except BaseException:
            os.close(self._reading)
            raise
        finally:
            os.close(writing)
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._has_ended.set)
        self._loop.add_reader(self._reading, self._read)
        self._let_go()

    async def ended(self) -> int:
        """Its exit code, once it has ended by itself."""
        await self._has_ended.wait()
        code = self._process.wait()
        return code if code >= 0 else 128 - code

    async def end(self, by_force: bool) -> None:
        """Nothing is left of it. ``by_force``: what descends from it goes too, where that has lost the mark."""
        await asyncio.to_thread(self._kill, by_force)
        self._has_ended.set()
        self._loop.remove_reader(self._pidfd)
        self._loop.remove_reader(self._reading)
        with suppress(BlockingIOError):  # somebody who escaped holds it open
            while piece := os.read(self._reading, _PIECE):
                self.output.add(piece)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.1)
        os.close(self._pidfd)
        os.close(self._reading)

    def _kill(self, by_force: bool) -> None:
        end(self._mark, self._candidates, tree_of(self._process.pid, ()) if by_force else ())

    def _let_go(self) -> None:
        assert self._process.stdin is not None  # noqa: S101  (a pipe was asked for)
        with suppress(OSError):  # it was killed meanwhile, or the group is gone with the replica
            for directory in self._groups:
                Path(directory, "cgroup.procs").write_text(str(self._process.pid))
        with suppress(OSError):
            self._process.stdin.write(b"\n")
            self._process.stdin.close()

    def _read(self) -> None:
        piece = os.read(self._reading, _PIECE)
        self.output.add(piece)
        if not piece:
            self._loop.remove_reader(self._reading)
        elif self.output.total > _AT_FULL_SPEED:
            self._loop.remove_reader(self._reading)
            self._loop.call_later(_SLOW, self._read_on)

    def _read_on(self) -> None:
        if not self._has_ended.is_set():
            self._loop.add_reader(self._reading, self._read)

    def _candidates(self) -> Sequence[int]:
        inside = members(self._groups)
        return sorted(inside) if inside is not None else sorted(processes())


def _started(
    order: ChildOrder, environment: Mapping[str, str], command: Sequence[str], output: int
) -> subprocess.Popen[bytes]:
    owner = account(order.user)
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", _WAIT_FOR_GROUP, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            bufsize=0,
            cwd=order.cwd,
            env=dict(environment),
            start_new_session=True,
            umask=0o022,
            user=owner.uid if owner else None,
            group=owner.gid if owner else None,
            extra_groups=os.getgrouplist(owner.name, owner.gid) if owner else None,
        )
    except OSError as error:
        raise StepFailed(f"{command[0]!r} cannot be run beside {order.name}: {error.strerror}") from error
