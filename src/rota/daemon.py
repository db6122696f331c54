"""The daemon: the composition root. Makes every adapter, the engine and the API, and ends them in order.

Run by ``rota serve`` (__main__); HAProxy, the keeper and the replicas go on without it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import hashlib
import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import ASGIApp

import rota
from rota import addresses, doctor
from rota.adapters.balancer.haproxy import binary as haproxy_binary
from rota.adapters.balancer.haproxy.access import HaproxyAccessLog
from rota.adapters.balancer.haproxy.balancer import HaproxyBalancer
from rota.adapters.balancer.haproxy.binary import Binary
from rota.adapters.balancer.haproxy.kept import NAME as HAPROXY
from rota.adapters.balancer.haproxy.kept import KeptHaproxy
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.clock import SystemClock
from rota.adapters.disk import DirectoryDisk
from rota.adapters.dns.kept import NAMES as NAME_SERVERS
from rota.adapters.dns.views import DnsViews
from rota.adapters.durable import write_durably
from rota.adapters.keeper.client import Children
from rota.adapters.notifier import AppriseNotifier
from rota.adapters.prober.connections import SocketConnections
from rota.adapters.prober.prober import SocketProber
from rota.adapters.runtime.process.layout import account
from rota.adapters.runtime.process.runtime import ProcessRuntime
from rota.adapters.source import ArchiveDirectory
from rota.adapters.store.sqlite import SqliteStore
from rota.api.application import create_api
from rota.core.diagnosis import Finding
from rota.core.errors import Missing, RotaError, StepFailed
from rota.core.fitness import RuntimeKind
from rota.engine.certificatewatch import CertificateWatch
from rota.engine.delivery import Delivery
from rota.engine.diskwatch import DiskWatch
from rota.engine.engine import Engine
from rota.engine.loops import running
from rota.engine.reconciler import Fault, no_fault
from rota.engine.sourcesweep import SourceSweep
from rota.engine.supervisor import Supervisor
from rota.engine.views import View, moment
from rota.options import Options, read_options
from rota.testing import faults

if TYPE_CHECKING:
    from rota.adapters.runtime.docker.runtime import DockerRuntime

log = logging.getLogger("rota")


def main(argv: Sequence[str]) -> int:
    """Serves until SIGTERM or an order to shut down; returns the exit code (design.md, "Exit codes")."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        options = read_options(argv)
        with _only_daemon(options.data_dir):
            _name_missing_isolation(options)
            asyncio.run(_serve(options))
    except RotaError as error:
        sys.stderr.write(f"rota serve: {error}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"rota serve: {error}\n")
        return 1
    return 0


@contextlib.contextmanager
def _only_daemon(data_dir: Path) -> Iterator[None]:
    """Holds the data directory's lock. Raises Missing naming the daemon that has it."""
    path = data_dir / "daemon.lock"
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Missing(
            f"the data directory {data_dir} cannot be used ({error.strerror}); give --data-dir another"
        ) from error
    with open(descriptor, "r+") as lock:
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


def _name_missing_isolation(options: Options) -> None:
    """design.md, "The process runtime": as root without a user for the apps, ``serve`` says what that means."""
    processes = options.runtime is RuntimeKind.PROCESS
    if processes and os.geteuid() == 0 and account(options.process_user) is None:
        log.warning(
            "apps run as root: they are not isolated from each other, nor rota from them; "
            "give --process-user, or user: in an app's file"
        )


async def _serve(options: Options) -> None:
    token = _admin_token(options.data_dir)
    with addresses.listening(options.api) as api_socket:
        async with contextlib.AsyncExitStack() as stack:
            server = await _Server.open(options, stack)
            gc.freeze()  # what was imported stays: no collection is to walk it again, 40 ms in the middle of a rollout
            closing = asyncio.Event()
            api = create_api(server.engine, hashlib.sha256(token.encode()).hexdigest(), closing=closing)
            web = web_server(api)
            serving = asyncio.create_task(web.serve(sockets=[api_socket]))
            serving.add_done_callback(lambda _: server.end())  # an API that broke: nobody could order anything
            log.info("rota %s serves %s, its API %s:%d", rota.__version__, options.http, *options.api)
            await server.until_ended()
            if not server.keep_apps:
                await server.stop_apps()
            closing.set()
            web.should_exit = True
            await serving


def web_server(api: ASGIApp, grace: int = 5) -> uvicorn.Server:
    """What serves the API; ``grace`` is for how many seconds an end waits for clients that have stalled."""
    config = uvicorn.Config(api, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=grace)
    logging.getLogger("uvicorn.error").addFilter(_is_no_end)  # after the config, which sets that logger up
    return _Web(config)


def _is_no_end(record: logging.LogRecord) -> bool:
    """A request that was ended with the server is no failure to be traced."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _Web(uvicorn.Server):
    """Signals are the daemon's own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Server:
    """Everything that a daemon is made of, and how it ends."""

    def __init__(
        self, options: Options, program: Binary, settings: Settings, children: Children, clock: SystemClock
    ) -> None:
        settings.directory.mkdir(mode=0o700, exist_ok=True)
        self.keep_apps = True
        self._options = options
        self._started_at = clock.now()
        self._children = children
        self._clock = clock
        self._program = program
        self._ended = asyncio.Event()
        self._signalled = asyncio.Event()
        self._sources = ArchiveDirectory(options.data_dir / "sources")
        self._runtime = _runtime(options, children, self._sources, clock)
        self._haproxy = KeptHaproxy(children, clock, settings.directory)
        self._access = HaproxyAccessLog(settings.directory)
        self._notifier = AppriseNotifier()
        self._balancer = HaproxyBalancer(settings, program.path, self._haproxy, clock)
        names = options.data_dir / "nameserver"
        self._dns = DnsViews(children, names, options.dns, options.dns_networks, options.dns_zones, options.dns_ttl)

    @classmethod
    async def open(cls, options: Options, stack: contextlib.AsyncExitStack) -> _Server:
        """In charge when it returns; ``stack`` lets go of everything, and everything goes on."""
        program = haproxy_binary.find()
        settings = Settings(
            options.data_dir / "haproxy",
            (options.http,),
            reload_interval=options.reload_interval,
            trusted=options.trusted_proxies,
            not_found_page=options.not_found_page,
        )
        children = Children(options.data_dir)
        stack.push_async_callback(children.close)
        await children.open()
        server = cls(options, program, settings, children, SystemClock(options.data_dir))
        if not children.known:
            stack.push_async_exit(server._leave_nothing_idle)
        await server._notifier.check(*options.notify)
        if not server._haproxy.listens_at(options.http):
            own = server._haproxy.pids | ({children.keeper_pid} if children.keeper_pid is not None else set())
            addresses.refuse_in_use(options.http, own)
        stack.push_async_callback(server._runtime.close)
        await server._runtime.open()
        stack.push_async_callback(server._balancer.close)
        await server._balancer.start()
        stack.push_async_callback(server._dns.close)
        await server._dns.open(server._runtime.bridge)
        store = await SqliteStore.open(options.data_dir / "rota.db")
        stack.push_async_callback(store.close)
        server._take_over(store)
        stack.push_async_callback(server._supervisor.close)
        await server._supervisor.start()
        journal, disk = server._supervisor.journal, DirectoryDisk(options.data_dir)
        await stack.enter_async_context(
            running(
                outbox=Delivery(store, server._notifier, server._clock, journal).run,
                disk=DiskWatch(disk, store, server._clock, journal).run,
                certificates=CertificateWatch(server._runtime, store, server._clock, journal).run,
                sources=SourceSweep(server._sources, server._supervisor).run,
                access_log=server._access.run,
            )
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.on_signal)
        return server

    def end(self) -> None:
        self._ended.set()

    def on_signal(self) -> None:
        self._signalled.set()
        self.end()

    async def until_ended(self) -> None:
        await self._ended.wait()

    async def stop_apps(self) -> None:
        """Replicas, HAProxy, name server, keeper, in this order (design.md, ``rota shutdown``). A signal while replicas
        are waited for ends the daemon alone, as it always does."""
        if not await self._apps_stopped():
            log.warning("told to end while the apps stop; they run again with the next server")
            return
        await self._supervisor.close()
        with contextlib.suppress(StepFailed):  # somebody else's container is in its network: that stays
            await self._runtime.dismantle()
        await self._balancer.close()
        await self._haproxy.stop()
        await self._dns.stop()
        await self._children.shutdown()

    async def _apps_stopped(self) -> bool:
        stopping = asyncio.create_task(self._supervisor.suspend())
        told = asyncio.create_task(self._signalled.wait())
        await asyncio.wait({stopping, told}, return_when=asyncio.FIRST_COMPLETED)
        stopped = stopping.done()
        told.cancel()
        stopping.cancel()
        await asyncio.wait({stopping, told})
        if stopped:
            stopping.result()
        return stopped

    async def _leave_nothing_idle(self, kind: object, error: BaseException | None, trace: object) -> None:
        """At the end of a first daemon that could not start: HAProxy, name server and keeper would stay behind, of
        nothing, and listen."""
        if isinstance(error, RotaError | OSError):
            with contextlib.suppress(StepFailed, TimeoutError):  # the error that brought us here is to be told
                if self._children.known.keys() <= {HAPROXY, *NAME_SERVERS}:
                    await self._haproxy.stop()
                    await self._dns.stop()
                    await self._children.shutdown()

    def _take_over(self, store: SqliteStore) -> None:
        self._supervisor = Supervisor(
            runtime=self._runtime,
            balancer=self._balancer,
            prober=SocketProber(self._runtime.pids_of, self._runtime.namespace_of, self._runtime.exec),
            usage=self._runtime,
            connections=SocketConnections(self._runtime.namespace_of, self._balancer.pids),
            logs=self._runtime.logs,
            store=store,
            clock=self._clock,
            dns=self._dns.views,
            fault=_fault(),
            notify=self._options.notify,
        )
        self.engine = Engine(
            self._supervisor,
            store=store,
            sources=self._sources,
            runtime=self._runtime,
            machine=self._runtime,
            usage=self._runtime,
            certificates=self._runtime,
            balancer=self._balancer,
            logs=self._runtime.logs,
            access=self._access,
            exec=self._runtime.exec,
            clock=self._clock,
            notifier=self._notifier,
            about=self._about,
            examine=self._examine,
            http=self._options.http,
            own_ports=self._own_ports(),
            behind_proxies=bool(self._options.trusted_proxies),
            on_shutdown=self._shut_down,
        )

    def _own_ports(self) -> dict[str, range]:
        """Where no TCP service of an app may listen."""
        given = self._options
        single = {"the HTTP frontend's": given.http, "the name server's": given.dns}
        places = {what: int(place.rpartition(":")[2]) for what, place in single.items() if place is not None}
        leased = (
            {"among those that replicas are given (--ports)": given.ports}
            if given.runtime is RuntimeKind.PROCESS
            else {}
        )
        return {what: range(port, port + 1) for what, port in (places | {"the API's": given.api[1]}).items()} | leased

    def _shut_down(self, keep_apps: bool) -> None:
        self.keep_apps = keep_apps
        self.end()

    def _examine(self) -> Sequence[Finding]:
        given = self._options
        elsewhere = given.docker_host or os.environ.get("DOCKER_HOST")
        containers = given.runtime is RuntimeKind.DOCKER
        docker = containers and not elsewhere  # the local engine's socket
        contains = self._runtime.contains
        return doctor.examine(given.data_dir, given.ports, given.process_user, contains, containers, docker)

    def _about(self) -> View:
        haproxy = self._children.known.get(HAPROXY)
        return {
            "version": rota.__version__,
            "runtime": self._runtime.kind.value,
            "data_dir": str(self._options.data_dir),
            "api": "{}:{}".format(*self._options.api),
            "http": self._options.http,
            "haproxy": {"version": self._program.release, "pid": haproxy.pid if haproxy else None},
            "dns": self._dns.about(),
            "keeper": {"pid": self._children.keeper_pid},
            "pid": os.getpid(),
            "limits_enforced": self._runtime.contains,
            "started_at": moment(self._started_at),
        }


def _runtime(
    options: Options, children: Children, sources: ArchiveDirectory, clock: SystemClock
) -> ProcessRuntime | DockerRuntime:
    match options.runtime:
        case RuntimeKind.PROCESS:
            return ProcessRuntime(
                options.data_dir,
                children,
                sources,
                clock,
                ports=options.ports,
                process_user=options.process_user,
            )
        case RuntimeKind.DOCKER:
            # Its HTTP client takes as long to import as all the rest: no server of processes is to wait for it.
            from rota.adapters.runtime.docker.runtime import DockerRuntime

            return DockerRuntime(options.data_dir, children.data_dir_id, clock, host=options.docker_host)


def _fault() -> Fault:
    order = os.environ.get(faults.VARIABLE)
    return faults.Fault(order) if order else no_fault


def _admin_token(data_dir: Path) -> str:
    """The administrator's token, made at the first start: 256 bits, readable by the owner alone. An empty file is no
    token: whoever sends none would have it."""
    path = data_dir / "admin.token"
    kept = path.read_text().strip() if path.exists() else ""
    if not kept:
        kept = secrets.token_urlsafe(32)
        write_durably(path, kept + "\n")
    return kept
