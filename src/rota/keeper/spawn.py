"""The birth of a process in two steps, its pid being on record before its program runs; for the children."""

import os
import pwd
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from .listeners import hand_over
from .process import look
from .record import Record

_EXIT_NOT_STARTED = 127


class NotStartedError(Exception):
    """The program could not be executed; the text names the path and the kernel's reason."""


class Newborn:
    """A forked process that waits for `go`; it ends by itself when the keeper dies before that."""

    def __init__(self, record: Record, environment: dict[str, str], descriptors: frozenset[int]) -> None:
        """Fork; `descriptors` stay open in it. NotStartedError: unknown user. OSError: no more processes or files."""
        account = _account(record.user)
        go_read, self._go = os.pipe()
        self._errors, errors_write = os.pipe()
        # No signal may run the keeper's own reactions in the copy.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become(record, environment, account, descriptors, go_read, errors_write)
        except OSError:
            os.close(self._go)
            os.close(self._errors)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            os.close(go_read)
            os.close(errors_write)
        try:
            self.pidfd = os.pidfd_open(self.pid)
        except OSError:
            self._close()
            os.waitpid(self.pid, 0)
            raise
        process = look(self.pid)
        if process is None:
            raise RuntimeError(f"child {self.pid} was reaped by somebody else")
        self.start_ticks = process.start_ticks

    def go(self) -> None:
        """Let it execute its program, and wait until it does; raises NotStartedError. One that was killed meanwhile has
        started, and its end is to be seen."""
        with suppress(BrokenPipeError):
            os.write(self._go, b"g")
        message = b""
        while piece := os.read(self._errors, 65536):
            message += piece
        self._close()
        if message:
            self._reap()
            raise NotStartedError(message.decode(errors="replace"))

    def abandon(self) -> None:
        """It never runs its program."""
        self._close()
        self._reap()

    def _reap(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self.pidfd)

    def _close(self) -> None:
        os.close(self._go)
        os.close(self._errors)


def _account(user: str | None) -> pwd.struct_passwd | None:
    if user is None:
        return None
    try:
        account = pwd.getpwuid(int(user)) if user.isascii() and user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise NotStartedError(f"user {user!r}: no such user") from None
    return None if account.pw_uid == os.geteuid() else account


def _become(
    record: Record,
    environment: dict[str, str],
    account: pwd.struct_passwd | None,
    descriptors: frozenset[int],
    go: int,
    errors: int,
) -> NoReturn:
    """In the new process: turn into the program, or tell why not and end."""
    path, reason = record.argv[0], "failed for a reason that could not be told"
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        _reset_signals()
        _close_all_but({0, 1, 2, go, errors} | descriptors)
        hand_over(descriptors)
        if not os.read(go, 1):
            os._exit(_EXIT_NOT_STARTED)
        os.umask(0o022)
        for path, step in _steps(record, account):  # noqa: B007 - the path is for the message below
            step()
        path = record.argv[0]
        os.execvpe(path, record.argv, environment)  # noqa: S606 - without a shell is the point
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        if isinstance(error, FileNotFoundError) and path == record.argv[0] and os.path.exists(path):
            reason = f"{reason} (the file is there, the interpreter that it names is not)"
    finally:
        # Reached only when there is no program: whatever happened, this copy of the keeper must not go on.
        os.write(errors, f"{path}: {reason}".encode(errors="replace"))
        os._exit(_EXIT_NOT_STARTED)


def _steps(record: Record, account: pwd.struct_passwd | None) -> list[tuple[str, Callable[[], None]]]:
    """What is done before the program, each with the path to blame; log and cgroups still as the keeper."""
    steps: list[tuple[str, Callable[[], None]]] = [("/dev/null", lambda: _onto("/dev/null", os.O_RDONLY, 0))]
    log = record.log or "/dev/null"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    steps.append((log, lambda: _onto(log, flags, 1, 2)))
    for directory in record.cgroups:
        procs = os.path.join(directory, "cgroup.procs")
        steps.append((procs, lambda procs=procs: _join(procs)))  # type: ignore[misc]
    if account is not None:
        steps.append((f"user {account.pw_name}", lambda: _drop_to(account)))
    cwd = record.cwd or "/"
    steps.append((cwd, lambda: os.chdir(cwd)))
    return steps


def _onto(path: str, flags: int, *targets: int) -> None:
    descriptor = os.open(path, flags, 0o600)
    for target in targets:
        os.dup2(descriptor, target)
    if descriptor not in targets:
        os.close(descriptor)


def _join(procs: str) -> None:
    descriptor = os.open(procs, os.O_WRONLY)
    os.write(descriptor, str(os.getpid()).encode())
    os.close(descriptor)


def _drop_to(account: pwd.struct_passwd) -> None:
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _reset_signals() -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _close_all_but(kept: set[int]) -> None:
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) not in kept:
            try:
                os.close(int(entry))
            except OSError:
                continue  # the directory's own descriptor, closed already
