"""The keeper: parent of HAProxy, of replicas and of the name server; run by `rota keeper`, stdlib only.

One a data directory. It starts children, reaps them, records how they ended, restarts those so marked,
rotates their logs, and decides nothing else. Losing it costs exit codes, never traffic: children live on and
the next keeper adopts them by boot id, pid and start ticks.

Protocol: JSON lines over the Unix socket `keeper.sock`, many requests a connection, at most 4 MiB a line.
`{"id": any, "op": …}` is answered by `{"id", "ok": true, …}` or by
`{"id", "ok": false, "error": {"code", "message"}}`. Replies may overtake one that waits for a tree to end:
they are matched by `id`.

    ping      {}
    start     {child: {name, argv, env, cwd, user, log, cgroups, meta, restart, listen}}  → {child}
    restart   {name, argv?, env?, cgroups?, meta?}                                   → {child}
    signal    {name, signal: "TERM", tree: false, restart: true}                     → {signalled: N}
    forget    {name}                              answered when the child's tree is gone
    update    {name, meta}                                                           → {child}
    listen    {name, listen}                                                         → {child}
    list      {}                                 → {children, boot_id, keeper: {pid, data_dir_id, started_at}}
    watch     {}                                      the same, then events on this connection:
              {"event": "started|exited|failed|updated|forgotten", "child": {…}}
    shutdown  {}                                      the keeper ends

`listen` is places by variable, `{"WEB": "127.0.0.1:8080"}`: the keeper listens there, and the child finds
`WEB=fd@N` in its environment, so that connections wait while it is started again (not for one that ends over and
over). A place that cannot be had has no variable. A next keeper has none of these sockets before the child's next
start.

`start` needs `name` and `argv`, the rest has defaults (`cwd` `/`, `log` /dev/null). It is idempotent by name
while the child lives; after that it is a new run that keeps the list of runs. `restart: false` in `signal`
takes the mark away, whatever the signal; `signalled` in the record is the last one that the main process got.
`tree` reaches all processes of the child; N may be 0, of an ended
child too. What is left of a tree is killed when its main process ends. A child of an earlier boot is `exited`
and not restarted: its cgroups and files may be gone, the caller starts it again.

Codes: bad-request · unknown (no such child) · alive · children-alive · exec-failed · disk (nothing was
started) · denied (the kernel forbids the signal).

A child in replies is its record (`record.py`) without `env`. `exit_code` and `signal` are both null when it
runs, or when `exit_unknown` says that nobody could know. `runs` are the last 20.
"""

import argparse
import ctypes
import fcntl
import os
import re
import secrets
import signal
from contextlib import suppress
from pathlib import Path

from .children import Children
from .log import DEFAULT_LIMIT
from .loop import Loop
from .requests import Requests
from .server import Server
from .shelf import Shelf, replace_file

TIDY_INTERVAL = 2.0
_PR_SET_CHILD_SUBREAPER = 36


class UnusableError(Exception):
    """The data directory cannot be kept by this process; the text is for the person who started it."""


def main(argv: list[str]) -> int:
    """Run until SIGTERM, SIGINT or `shutdown`; returns 0, or 1 after one line that says why it cannot."""
    parser = argparse.ArgumentParser(prog="rota keeper", description="Keep the processes of one data directory.")
    parser.add_argument("--data-dir", required=True, type=Path)
    directory = parser.parse_args(argv).data_dir.absolute()
    os.umask(0o077)
    _open_standard_descriptors()
    try:
        _lock(directory)
        _keep(directory, _data_directory_id(directory), _log_limit())
    except (UnusableError, OSError) as error:
        _say(str(error))
        return 1
    return 0


def _keep(directory: Path, keeper_id: str, log_limit: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a child subreaper")
    loop = Loop()
    server = _server(loop, directory / "keeper.sock")
    children = Children(loop, Shelf(directory / "keeper" / "children"), keeper_id, server.publish, _say)

    def tidy() -> None:
        children.tidy(log_limit)
        loop.after(TIDY_INTERVAL, tidy)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    loop.on_signal(signal.SIGCHLD, children.reap)
    loop.on_signal(signal.SIGTERM, loop.stop)
    loop.on_signal(signal.SIGINT, loop.stop)
    children.adopt()
    server.serve(Requests(children, keeper_id))
    tidy()
    loop.run()
    server.close()


def _server(loop: Loop, path: Path) -> Server:
    try:
        return Server(loop, path)
    except OSError as error:
        raise UnusableError(f"cannot listen on {path}: {error}") from error


def _lock(directory: Path) -> None:
    """One keeper a data directory, as long as the process lives."""
    own = directory / "keeper"
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    own.mkdir(mode=0o700, exist_ok=True)
    # Never closed: the kernel lets go of it when the process ends, however it ends.
    lock = os.open(own / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UnusableError(f"{directory} has a keeper already") from None


def _data_directory_id(directory: Path) -> str:
    path = directory / "id"
    try:
        found = path.read_text().strip()
    except FileNotFoundError:
        found = secrets.token_hex(16)
        replace_file(path, found + "\n")
    except UnicodeDecodeError:
        found = ""
    if not re.fullmatch(r"[0-9a-zA-Z._-]{8,64}", found):
        raise UnusableError(f"{path} does not hold a data directory's id")
    return found


def _log_limit() -> int:
    text = os.environ.get("ROTA_LOG_LIMIT", str(DEFAULT_LIMIT))
    if not re.fullmatch(r"[1-9][0-9]{0,14}", text):
        raise UnusableError(f"ROTA_LOG_LIMIT must be a number of bytes, not {text!r}")
    return int(text)


def _open_standard_descriptors() -> None:
    """A keeper started without them must not get 0, 1 or 2 for its sockets."""
    while (descriptor := os.open("/dev/null", os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _say(message: str) -> None:
    # Whoever reads stderr may have gone; that is no reason to end.
    with suppress(OSError):
        os.write(2, f"rota keeper: {message}\n".encode(errors="replace"))
