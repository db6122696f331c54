"""The daemon: the composition root. Makes every adapter, the engine and the API, and ends them in order.

Run by ``rota serve`` (__main__); HAProxy, the keeper and the replicas go on without it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import ipaddress
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

import rota
from rota.adapters.balancer.haproxy import binary as haproxy_binary
from rota.adapters.balancer.haproxy.balancer import HaproxyBalancer
from rota.adapters.balancer.haproxy.kept import NAME as HAPROXY
from rota.adapters.balancer.haproxy.kept import KeptHaproxy
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.clock import SystemClock
from rota.adapters.prober.prober import SocketProber
from rota.adapters.runtime.process.keeper_client import Children
from rota.adapters.runtime.process.runtime import ProcessRuntime
from rota.adapters.source import ArchiveDirectory
from rota.adapters.store.sqlite import SqliteStore
from rota.api.application import create_api
from rota.core.errors import Missing, RotaError, UsageError
from rota.engine.engine import Engine
from rota.engine.reconciler import Fault, no_fault
from rota.engine.supervisor import Supervisor
from rota.engine.views import View, moment
from rota.testing import faults

log = logging.getLogger("rota")


@dataclass(frozen=True)
class Options:
    data_dir: Path
    api: tuple[str, int]
    http: str
    process_user: str | None
    ports: range


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or an order to shut down; returns the exit code (design.md, "Exit codes")."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        options = _options(argv)
        with _only_daemon(options.data_dir):
            asyncio.run(_serve(options))
    except RotaError as error:
        sys.stderr.write(f"rota serve: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"rota serve: {error}\n")
        return 1
    return 0


def default_data_dir() -> Path:
    """``/var/lib/rota`` for root, else in the XDG state directory (design.md, "Environment")."""
    if "ROTA_DATA_DIR" in os.environ:
        return Path(os.environ["ROTA_DATA_DIR"])
    if os.geteuid() == 0:
        return Path("/var/lib/rota")
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / "rota"


def _options(argv: Sequence[str]) -> Options:
    parser = argparse.ArgumentParser(
        prog="rota serve",
        description="Runs the server: it keeps the apps as they are to be, behind HAProxy.",
        epilog="example: rota serve --data-dir ./state --http 127.0.0.1:8080",
    )
    add = parser.add_argument
    add("--data-dir", type=Path, default=default_data_dir(), help="where everything is kept (default: %(default)s)")
    add("--api", default="127.0.0.1:7700", help="the API's address, on the loopback only (default: %(default)s)")
    add("--http", default="0.0.0.0:8080", help="where users come in (default: %(default)s)")
    add("--runtime", choices=["process"], default="process", help="what replicas are (default: %(default)s)")
    add("--process-user", help="the user that apps run as when their file names none (as root only)")
    add("--ports", default="20000-29999", help="ports for replicas (default: %(default)s)")
    given = parser.parse_args(list(argv))
    return Options(
        given.data_dir.absolute(), _api_address(given.api), given.http, given.process_user, _ports(given.ports)
    )


def _api_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not port.isdigit() or int(port) > 65535:
        raise UsageError(f"--api {text}: write it as 127.0.0.1:7700")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise UsageError(f"--api {text}: {host} is not an address") from error
    if not loopback:
        raise UsageError(f"--api {text}: an address other than the loopback needs TLS, which this version does not have")
    return "127.0.0.1" if host == "localhost" else host, int(port)


def _ports(text: str) -> range:
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 1024 <= int(first) <= int(last) <= 65535):
        raise UsageError(f"--ports {text}: write it as 20000-29999")
    return range(int(first), int(last) + 1)


@contextlib.contextmanager
def _only_daemon(data_dir: Path) -> Iterator[None]:
    """Holds the data directory's lock. Raises Missing naming the daemon that has it."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = data_dir / "daemon.lock"
    with open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            other = lock.read().strip() or "unknown"
            raise Missing(
                f"another rota serve (pid {other}) has the data directory {data_dir}; "
                "stop that one, or give this one a --data-dir of its own"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


async def _serve(options: Options) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    token = _admin_token(options.data_dir)
    with _listening(options.api) as api_socket:
        async with _running(options, ended) as (engine, closing):
            closing_streams = asyncio.Event()
            api = create_api(engine, hashlib.sha256(token.encode()).hexdigest(), closing=closing_streams)
            config = uvicorn.Config(
                api, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=5
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[api_socket]))
            log.info("rota %s serves %s, its API %s:%d", rota.__version__, options.http, *options.api)
            await ended.wait()
            await closing()
            closing_streams.set()
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    """Signals are the daemon's own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


Closing = contextlib.AbstractAsyncContextManager[object]


@contextlib.asynccontextmanager
async def _running(options: Options, ended: asyncio.Event) -> AsyncIterator[tuple[Engine, object]]:
    raise NotImplementedError
    yield
