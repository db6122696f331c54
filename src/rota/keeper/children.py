"""The keeper's children: started, adopted, watched, restarted when so marked; driven by requests and loop."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import log, process, tree
from .child import HELD_FOR, SETTLED, Child
from .listeners import Listeners
from .loop import Loop
from .record import Record, State
from .shelf import Shelf
from .spawn import Newborn, NotStartedError
from .sweep import Sweep

SAVE_AFTER = 0.05
"""Seconds for what follows on a change, often the next one, before the disk is waited for."""

Publish = Callable[[str, Record], None]


class RefusedError(Exception):
    """The request cannot be met; `code` says which reaction it requires."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class SweepingError(Exception):
    """What is left of the child's tree is being killed: ask again when `sweep` is over."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__("the rest of its tree is being killed")
        self.sweep = sweep


class Children:
    """All children of one data directory; any request may raise SweepingError, to be asked again."""

    def __init__(self, loop: Loop, shelf: Shelf, keeper_id: str, publish: Publish, say: Callable[[str], None]) -> None:
        self._loop, self._shelf, self._keeper_id = loop, shelf, keeper_id
        self._publish, self._say = publish, say
        self._children: dict[str, Child] = {}
        self._unsaved: dict[str, None] = {}
        self._refused: set[str] = set()
        self.boot_id = process.boot_id()

    def records(self) -> list[Record]:
        """All of them, by name."""
        return [self._children[name].record for name in sorted(self._children)]

    def busy(self) -> list[str]:
        """Those that are alive or about to be started again."""
        return [name for name, child in self._children.items() if child.alive or child.restart_timer]

    def expect_all_swept(self) -> None:
        """Raises SweepingError while a tree is being killed."""
        for child in self._children.values():
            self._expect_swept(child)

    def start(self, order: Record) -> Record:
        """A new run, or the one that runs when the order is the same. Refused: alive, disk, exec-failed."""
        child = self._children.get(order.name)
        if child is None:
            child = Child(order, Listeners(self._say))
            self._begin(child, order)
            return child.record
        if child.alive:
            if not child.record.same_order(order):
                raise RefusedError("alive", f"{order.name} is alive and was started differently")
            return child.record
        self._expect_swept(child)
        child.quick_exits = 0
        history: dict[str, Any] = {"state": child.record.state, "runs": child.record.runs}
        self._begin(child, replace(order, **history))
        return child.record

    def restart(self, name: str, changes: dict[str, Any]) -> Record:
        """A new run of an exited child with changes. RefusedError: unknown, alive, disk, exec-failed."""
        child = self._get(name)
        if child.alive:
            raise RefusedError("alive", f"{name} is alive")
        self._expect_swept(child)
        restarts = child.record.restarts + 1
        self._begin(child, replace(child.record, **changes, restarts=restarts))
        return child.record

    def signal(self, name: str, signum: int, *, whole_tree: bool, restart: bool) -> int:
        """Signal the main process or all; returns how many got it. RefusedError: unknown, denied."""
        child = self._get(name)
        if not restart and (child.record.restart or child.restart_timer):
            child.cancel_restart()
            child.record.restart = False
            self._save(child.record)
            if not child.alive:
                child.listeners.close()
        try:
            if whole_tree:
                return self._signal_tree(child, signum)
            count = self._signal_main(child, signum)
        except PermissionError as error:
            raise RefusedError("denied", f"{name}: {error.strerror}") from error
        if count:
            # Whoever asked may die before it knows that the signal was sent: the next one sees it here.
            child.record = replace(child.record, signalled=signum)
            self._save(child.record)
            self._publish("updated", child.record)
        return count

    def forget(self, name: str) -> None:
        """Drop the record; the tree is gone when it returns. RefusedError: alive, disk."""
        child = self._children.get(name)
        if child is None:
            return
        if child.alive:
            raise RefusedError("alive", f"{name} is alive")
        self._expect_swept(child)
        try:
            self._shelf.remove(name)
        except OSError as error:
            raise RefusedError("disk", str(error)) from error
        child.cancel_restart()
        child.listeners.close()
        del self._children[name]
        self._unsaved.pop(name, None)
        self._refused.discard(name)
        self._publish("forgotten", child.record)

    def update(self, name: str, meta: dict[str, Any]) -> Record:
        """Replace `meta`. RefusedError: unknown, disk."""
        child = self._get(name)
        changed = replace(child.record, meta=meta)
        self._write(changed)
        child.record = changed
        self._publish("updated", changed)
        return changed

    def listen(self, name: str, places: dict[str, str]) -> Record:
        """Other places from its next start on; the others are let go of. RefusedError: unknown, disk."""
        child = self._get(name)
        changed = replace(child.record, listen=places)
        self._write(changed)
        child.record = changed
        child.listeners.keep(places)
        self._publish("updated", changed)
        return changed

    def adopt(self) -> None:
        """Take over what an earlier keeper left on disk, at the start."""
        records, complaints = self._shelf.load()
        for complaint in complaints:
            self._say(complaint)
        for record in records:
            child = self._children[record.name] = Child(record, Listeners(self._say))
            self._adopt(child)

    def reap(self) -> None:
        """On SIGCHLD: collect the orphans, and notice those of ours that have ended."""
        ours = {child.record.pid: child for child in self._children.values() if child.ours_to_reap}
        with suppress(ChildProcessError):
            while ending := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if child := ours.pop(ending.si_pid, None):
                    self._ended(child)
                else:
                    os.waitpid(ending.si_pid, 0)

    def tidy(self, log_limit: int) -> None:
        """Now and then: rotate logs over `log_limit` bytes, write again what the disk has refused."""
        for child in self._children.values():
            if child.alive and child.record.log:
                self._rotate(child.record, log_limit)
        for name in list(self._refused):
            self._save(self._children[name].record)

    # Starting

    def _begin(self, child: Child, order: Record) -> None:
        """Launch by request. What could not be started is not tried again: nobody may wait for it."""
        try:
            self._launch(child, order)
        except RefusedError:
            child.listeners.close()
            raise

    def _launch(self, child: Child, order: Record, *, must_record: bool = True) -> None:
        """Record, fork, record, execute. Without `must_record` a disk that refuses is no reason."""
        name = order.name
        record = replace(order)
        record.intend(self.boot_id, tree.out_of_memory_kills(order.cgroups))
        self._write(record, must=must_record)
        child.cancel_restart()
        self._children[name], child.record = child, record
        try:
            child.listen()
            environment = {**record.env, **child.listeners.environment, **tree.marks(self._keeper_id, name)}
            newborn = Newborn(record, environment, child.listeners.descriptors)
        except (NotStartedError, OSError) as error:
            raise self._failed(record, "exec-failed", str(error)) from error
        record.run(newborn.pid, newborn.start_ticks)
        try:
            # A pid is of no use after this boot: it has to outlive the keeper, not the machine.
            self._write(record, must=must_record, sync=False)
        except RefusedError as error:
            newborn.abandon()
            raise self._failed(record, error.code, error.message) from error
        try:
            newborn.go()
        except NotStartedError as error:
            raise self._failed(record, "exec-failed", str(error)) from error
        self._hold(child, newborn.pidfd, ours_to_reap=True)
        self._publish("started", record)
        self._save(record)

    def _failed(self, record: Record, code: str, message: str) -> RefusedError:
        record.fail(message)
        self._save(record)
        self._publish("failed", record)
        return RefusedError(code, message)

    def _hold(self, child: Child, pidfd: int, *, ours_to_reap: bool) -> None:
        child.pidfd, child.ours_to_reap, child.since = pidfd, ours_to_reap, self._loop.time()
        self._loop.watch(pidfd, lambda: self._ended(child))

    # Ending

    def _ended(self, child: Child) -> None:
        """The event first, since a balancer waits for it; then the rest of the tree; then the disk."""
        if child.pidfd is None:
            return
        record = child.record
        status = os.waitpid(record.pid or 0, 0)[1] if child.ours_to_reap else None
        self._loop.unwatch(child.pidfd)
        os.close(child.pidfd)
        child.pidfd, child.ours_to_reap = None, False
        record.exit(status)
        record.oom_hint = tree.out_of_memory_kills(record.cgroups) > record.oom_kills_before
        if self._loop.time() - child.since >= SETTLED:
            child.quick_exits = 0
        self._publish("exited", record)
        self._sweep(child)
        self._save(record)

    def _sweep(self, child: Child, *, session_is_ours: bool = True) -> None:
        """Kill what is left, and start again afterwards where that is wanted."""
        record = child.record
        kill = lambda: tree.kill(record, self._keeper_id, session_is_ours=session_is_ours)  # noqa: E731
        child.sweep = Sweep(self._loop, kill)
        child.sweep.then(lambda: self._swept(child))

    def _swept(self, child: Child) -> None:
        child.sweep = None
        self._restart_later(child)

    def _restart_later(self, child: Child) -> None:
        if not child.record.restart:
            child.listeners.close()
            return
        child.restart_timer = self._loop.after(child.backoff(), lambda: self._restart_now(child))
        if child.quick_exits > HELD_FOR:
            child.listeners.close()

    def _restart_now(self, child: Child) -> None:
        again = replace(child.record, restarts=child.record.restarts + 1)
        try:
            self._launch(child, again, must_record=False)
        except RefusedError as refused:
            self._say(f"{again.name} could not be started again: {refused.message}")
            self._restart_later(child)

    def _expect_swept(self, child: Child) -> None:
        if child.sweep:
            raise SweepingError(child.sweep)

    # Adopting

    def _adopt(self, child: Child) -> None:
        record = child.record
        if record.boot_id != self.boot_id:
            self._write_off(record)
            return
        if record.state is State.INTENDED and (stray := tree.find_main(record.name, self._keeper_id)):
            record.run(stray.pid, stray.start_ticks)
            self._save(record)
        if record.state is State.RUNNING:
            pidfd = process.hold(record.pid or 0, record.start_ticks or 0)
            if pidfd is not None:
                self._hold(child, pidfd, ours_to_reap=False)
                return
        just_ended = self._write_off(record)
        # The rest of a tree that lost its main process meanwhile; a restart follows, where it is wanted.
        if record.runs and (just_ended or record.restart):
            self._sweep(child, session_is_ours=False)

    def _write_off(self, record: Record) -> bool:
        """Record what became of a child that is no more; False when that is on record already."""
        if record.state is State.RUNNING:
            record.exit(None)
        elif record.state is State.INTENDED:
            record.fail("never started")
        else:
            return False
        self._save(record)
        return True

    # Signals, logs, disk

    def _signal_main(self, child: Child, signum: int) -> int:
        return tree.send([child.pidfd], signum) if child.pidfd is not None else 0

    def _signal_tree(self, child: Child, signum: int) -> int:
        pidfds = tree.hold_members(child.record, self._keeper_id, session_is_ours=child.alive)
        try:
            return tree.send(pidfds, signum)
        finally:
            process.close(pidfds)

    def _rotate(self, record: Record, limit: int) -> None:
        try:
            log.rotate(Path(record.log or ""), limit)
        except OSError as error:
            self._say(f"log of {record.name} not rotated: {error}")

    def _get(self, name: str) -> Child:
        if name not in self._children:
            raise RefusedError("unknown", f"no child {name}")
        return self._children[name]

    def _write(self, record: Record, *, must: bool = True, sync: bool = True) -> None:
        if not must:
            self._save(record)
            return
        try:
            self._shelf.write(record, sync=sync)
        except OSError as error:
            raise RefusedError("disk", f"record of {record.name} not written: {error}") from error
        self._refused.discard(record.name)

    def _save(self, record: Record) -> None:
        """Write a fact that cannot be refused: for the next keeper now, for good when nothing is waiting.

        Not durable at once, since an fsync would hold up the news of the next exit; what a power cut can take
        away is the end of a child that it ends anyhow.
        """
        self._try_write(record, sync=False)
        if not self._unsaved:
            self._loop.after(SAVE_AFTER, self._save_next)
        self._unsaved[record.name] = None

    def _save_next(self) -> None:
        """One a round of the loop, events coming first."""
        if self._unsaved:
            name = next(iter(self._unsaved))
            del self._unsaved[name]
            if name in self._children:
                self._try_write(self._children[name].record, sync=True)
        if self._unsaved:
            self._loop.after(0, self._save_next)

    def _try_write(self, record: Record, *, sync: bool) -> None:
        try:
            self._shelf.write(record, sync=sync)
            self._refused.discard(record.name)
        except OSError as error:
            if record.name not in self._refused:
                self._say(f"record of {record.name} not written yet: {error}")
            self._refused.add(record.name)
