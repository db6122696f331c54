"""An engine that does what a test says, behind the real API and a real HTTP server; for the tests of API and CLI."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn

from rota.api import create_api
from rota.core.errand import Errand
from rota.core.errors import Conflict, NotFound, RotaError
from rota.core.order import Order, Scale
from rota.core.steering import Pace, Skip

TOKEN = "a-token-of-the-tests"
TOKEN_SHA256 = hashlib.sha256(TOKEN.encode()).hexdigest()

View = dict[str, Any]

RECEIPT: View = {
    "requests": 18412,
    "retried": 2,
    "redispatched": 1,
    "cut": 0,
    "failed": 0,
    "app_errors": 0,
    "by_release": {"1": 9000, "2": 9412},
    "complete": True,
    "gaps": [],
}


class MemorySources:
    """Sources by digest; the archives themselves are only counted."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}

    async def put(self, chunks: AsyncIterator[bytes]) -> str:
        digest, size = hashlib.sha256(), 0
        async for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
        self.sizes[digest.hexdigest()] = size
        return digest.hexdigest()

    def has(self, digest: str) -> bool:
        return digest in self.sizes

    def path(self, digest: str) -> Path:
        raise NotFound(digest)

    async def keep_only(self, digests: frozenset[str]) -> None:
        self.sizes = {digest: size for digest, size in self.sizes.items() if digest in digests}


class ScriptedEngine:
    """Rollouts of it end at once as ``ending`` says, or with ``held`` not before ``finish`` is called."""

    def __init__(self) -> None:
        self.sources = MemorySources()
        self.orders: list[tuple[str, Order]] = []
        self.errands: list[tuple[str, Errand]] = []
        self.cancelled = 0
        self.came_of_it: View = {"exit_code": 0, "timed_out": False, "output": "", "cut": False}
        self.planned: list[tuple[str, Order]] = []
        self.endless = False
        self.ending: View = {"phase": "succeeded", "reason": "", "receipt": RECEIPT}
        self.held = False
        self.unanswered = False
        self.steps_cut = False
        self.slots = [1, 2]
        self.draining: dict[int, int] = {}
        self.looked = 0
        self.failure: BaseException | None = None
        self.not_ready: RotaError | None = None
        self.runtime = "process"
        self.dns_state = "published"
        self.streams = 0
        self.shutdowns: list[bool] = []
        self.pid: int | None = None
        self.keeper: int | None = None
        self.on_shutdown = lambda: None
        self._rollouts: dict[str, View] = {}
        self._events: list[View] = []
        self._lines: list[View] = [
            {"replica": "hello-1", "text": "listening"},
            {"replica": "hello-2", "text": "listening, too"},
        ]
        self._keys: dict[str, tuple[str, int, View]] = {}

    # status

    def apps(self) -> list[View]:
        return [app_view()]

    async def app(self, name: str) -> View:
        last = next(reversed(self._rollouts.values()), None)
        return _known(name) | {"replicas": [replica_view(1), replica_view(2)], "rollout": last, "spec": {}}

    async def replicas(self, name: str) -> View:
        self.looked += 1
        return {"app": _known(name)["name"], "maintenance": False, "replicas": list(map(self._replica, self.slots))}

    def _replica(self, slot: int) -> View:
        """``draining`` says of which slots the replica is going, and how much is open at it."""
        going = {"phase": "draining", "open": self.draining[slot]} if slot in self.draining else {}
        return replica_view(slot) | going

    async def stats(self, name: str | None) -> list[View]:
        return [stats_view(_known(name)["name"] if name is not None else "hello")]

    def dns(self) -> View:
        records = [
            {"app": "hello", "view": "internal", "replica": f"hello-{number}", "state": self.dns_state}
            | {"address": f"127.0.0.1:2000{number}", "names": ["hello.rota.internal"]}
            for number in (1, 2)
        ]
        view = {"app": "hello", "view": "internal", "ttl": 1.0, "required": False, "trouble": None}
        zone = {"app": "hello", "view": "example.org", "ttl": 30.0, "required": True, "trouble": "no answer"}
        return {"views": [view, zone], "records": records}

    def releases(self, name: str) -> View:
        _known(name)
        release = {
            "number": 2,
            "created_at": "2026-11-22T12:00:00.000Z",
            "current": True,
            "given_up": False,
            "source": None,
            "image": None,
            "command": ["python3", "app.py"],
            "rollout": "hello.2",
        }
        before = {
            "number": 1,
            "current": False,
            "given_up": True,
            "image": "hello:1",
            "command": [],
            "rollout": "hello.1",
        }
        return {"app": name, "releases": [release, release | before]}

    async def rollouts(self, app: str | None, limit: int) -> list[View]:
        found = [view for view in self._rollouts.values() if app in (None, view["app"])]
        return [{key: value for key, value in view.items() if key != "steps"} for view in found[::-1][:limit]]

    async def rollout(self, id: str) -> View:
        if id not in self._rollouts:
            raise NotFound(f"there is no rollout {id}")
        self._rollouts[id]["steps_cut"] = self.steps_cut
        return self._rollouts[id]

    def server(self) -> View:
        if self.failure:
            raise self.failure
        return {"version": "0.1.0", "runtime": self.runtime, "apps": 1, "pid": self.pid, "keeper": {"pid": self.keeper}}

    async def doctor(self, app: str | None) -> View:
        if app is not None:
            await self.app(app)
            return {"findings": [{"level": "problem", "about": f"{app}-1", "said": "crashed: no reason"}]}
        return {"findings": [{"level": "ok", "about": "disk", "said": "plenty"}]}

    async def ready(self) -> None:
        if self.not_ready:
            raise self.not_ready

    # commands

    async def exec(self, app: str, errand: Errand) -> View:
        if self.failure:
            raise self.failure
        self.errands.append((app, errand))
        try:
            while self.held:
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {"app": app, "replica": errand.replica or "hello-1"} | self.came_of_it

    async def begin(self, app: str, order: Order) -> View:
        if self.failure:
            raise self.failure
        running = next((view["id"] for view in self._rollouts.values() if view["phase"] == "progressing"), None)
        if running and not order.supersede and not isinstance(order, Scale):
            raise Conflict(f"{running} is under way", rollout=running)
        self.orders.append((app, order))
        if running and isinstance(order, Scale):
            return self._rollouts[running]
        view = rollout_view(app, len(self._rollouts) + 1, order.kind)
        self._rollouts[view["id"]] = view
        self.record(view, "phase", phase="progressing")
        self.record(view, "step", replica="hello-4", step="EnableServer", phase="ready", reason="ready and stable")
        if not self.held:
            self.finish(view["id"])
        while self.unanswered:
            await asyncio.sleep(0.01)
        return view | {"phase": "progressing"}

    async def plan(self, app: str, order: Order) -> View:
        if self.failure:
            raise self.failure
        self.planned.append((app, order))
        return plan_view(app, order) | ({"ends": None} if self.endless else {})

    def finish(self, id: str) -> None:
        view = self._rollouts[id]
        view.update({"finished_at": "2026-11-22T12:00:04.200Z", "progress": progress(3)} | self.ending)
        self.record(view, "phase", phase=view["phase"], reason=view["reason"])

    async def pause(self, rollout: str) -> View:
        return await self._moved(rollout, "paused")

    async def resume(self, rollout: str) -> View:
        return await self._moved(rollout, "progressing")

    async def abort(self, rollout: str) -> View:
        return await self._moved(rollout, "cancelled")

    async def skip(self, rollout: str, asked: Skip) -> View:
        return await self._moved(rollout, "progressing") | {"skipped": [asked.slot or 2]}

    async def tune(self, rollout: str, asked: Pace) -> View:
        policy = {"delay": asked.delay or 0.0, "parallelism": asked.parallelism or 1}
        return await self._moved(rollout, "progressing") | {"policy": policy}

    async def maintain(self, name: str, on: bool) -> View:
        return await self.app(name) | {"maintenance": on, "maintenance_in_force": on}

    async def shutdown(self, keep_apps: bool) -> None:
        self.shutdowns.append(keep_apps)
        self.on_shutdown()

    # streams

    def record(self, view: View, kind: str, **more: Any) -> None:
        event = {"seq": len(self._events) + 1, "at": "2026-11-22T12:00:01.000Z", "app": view["app"]}
        event |= {
            "rollout": view["id"],
            "kind": kind,
            "step": "",
            "replica": "",
            "phase": "",
            "reason": "",
            "detail": "",
        }
        self._events.append(event | more)

    async def events(self, *, app: str | None, rollout: str | None, after: int, limit: int) -> list[View]:
        found = [e for e in self._events if e["seq"] > after and app in (None, e["app"])]
        return [e for e in found if rollout in (None, e["rollout"])][-limit:] if limit else []

    async def follow_events(
        self, *, app: str | None = None, rollout: str | None = None, after: int
    ) -> AsyncIterator[View]:
        self.streams += 1
        try:
            while True:
                for event in await self.events(app=app, rollout=rollout, after=after, limit=10_000):
                    after = event["seq"]
                    yield event
                if rollout and self._rollouts[rollout]["finished_at"]:
                    return
                await asyncio.sleep(0.01)
        finally:
            self.streams -= 1

    async def log_lines(self, app: str, replica: str | None, tail: int) -> list[View]:
        await self.replicas(app)
        if replica is not None and replica not in {line["replica"] for line in self._lines}:
            raise NotFound(f"{app} has no replica {replica!r}")
        return [line for line in self._lines if replica in (None, line["replica"])][-tail:] if tail else []

    async def follow_logs(self, app: str, replica: str | None, tail: int) -> AsyncIterator[View]:
        for line in await self.log_lines(app, replica, tail):
            yield line
        await asyncio.Event().wait()

    # idempotency

    async def requests(self, app: str, tail: int) -> list[View]:
        return [request_view(app, path) for path in ("/a", "/b")][-tail:]

    async def follow_requests(self, app: str, tail: int) -> AsyncIterator[View]:
        for entry in await self.requests(app, tail):
            yield entry

    async def remembered(self, key: str) -> tuple[str, int, View] | None:
        return self._keys.get(key)

    async def remember(self, key: str, fingerprint: str, status: int, body: View) -> None:
        self._keys[key] = (fingerprint, status, body)

    async def _moved(self, rollout: str, phase: str) -> View:
        view = await self.rollout(rollout)
        if view["finished_at"]:
            raise Conflict(f"{rollout} has ended")
        view["phase"] = phase
        self.record(view, "phase", phase=phase)
        return view


def _known(name: str) -> View:
    if name != "hello":
        raise NotFound(f"there is no app {name}")
    return app_view()


def app_view() -> View:
    return {
        "name": "hello",
        "phase": "running",
        "replicas_wanted": 2,
        "ready": 2,
        "release": 2,
        "hosts": ["hello.localhost"],
        "urls": ["http://hello.localhost:8080"],
        "limits": {"memory": None, "cpus": None},
        "rollout": None,
        "maintenance": False,
        "maintenance_in_force": False,
    }


def replica_view(number: int) -> View:
    return {
        "id": f"hello-{number}",
        "slot": number,
        "release": 2,
        "generation": 1,
        "node": "local",
        "phase": "ready",
        "reason": "",
        "address": f"127.0.0.1:2000{number}",
        "started_at": "2026-11-22T12:00:00.000Z",
        "ready_since": "2026-11-22T12:00:01.000Z",
        "restarts": 0,
        "limits": {"memory": 268435456, "cpus": 0.5, "enforced": False},
        "open": 0,
        "weight": 100,
        "dns": "published",
        "log": [],
    }


def stats_view(app: str) -> View:
    measured = {
        "memory": {"used": 33_554_432, "limit": 268_435_456},
        "cpu": {"percent": 12.5, "limit_percent": None, "seconds": 0.25},
    }
    unknown = {
        "memory": {"used": None, "limit": None},
        "cpu": {"percent": None, "limit_percent": 50.0, "seconds": None},
    }
    served = {"slot": 1, "release": 2, "phase": "ready", "requests": 1234, "app_errors": 5, "open": 1}
    served["connections"] = {"requests": 0, "answers": 0, "websockets": 1, "tcp": 0}
    total = {"requests": 1240, "retried": 2, "redispatched": 1, "failed": 0, "app_errors": 5, "open": 1}
    return {
        "app": app,
        "at": "2026-11-22T12:00:00.000Z",
        "replicas": [{"id": f"{app}-1", **served, **measured}, {"id": f"{app}-2", **served, **unknown}],
        "backends": [{"name": f"{app}.0a1b2c3d", **total}],
        "old_processes": 1,
        "let_go": 0,
    }


def rollout_view(app: str, number: int, kind: str) -> View:
    return {
        "id": f"{app}.{number}",
        "app": app,
        "kind": kind,
        "phase": "progressing",
        "reason": "",
        "detail": "",
        "from_release": 1,
        "to_release": 2,
        "policy": {},
        "started_at": "2026-11-22T12:00:00.000Z",
        "finished_at": None,
        "progress": progress(0),
        "failures": [],
        "steps": [
            {"at": "2026-11-22T12:00:01.000Z", "step": "StartReplica", "replica": "hello-4", "reason": "slot 1 is due"}
        ],
        "receipt": RECEIPT,
    }


def progress(done: int) -> View:
    return {"done": done, "of": 3, "seconds_left": None if done == 3 else 125.0}


def plan_view(app: str, order: Order) -> View:
    """Of one replica's turn out of two."""
    steps = [
        (0.0, "BeginRollout", None),
        (0.0, "StartReplica", "hello-4"),
        (1.5, "EnableServer", "hello-4"),
        (1.51, "StopReplica", "hello-1"),
    ]
    return {
        "app": app,
        "kind": order.kind,
        "from_release": 1,
        "to_release": 2,
        "policy": {},
        "change": "rolling",
        "meaning": "users notice nothing: at least 2 of 2 replicas serve throughout",
        "ends": "succeeded",
        "predicted_seconds": 2.5,
        "outage_seconds": 0.0,
        "capacity": {
            "least": 2,
            "most": 3,
            "curve": [
                {"after": 0.0, "serving": 2, "running": 2},
                {"after": 1.5, "serving": 3, "running": 3},
                {"after": 1.51, "serving": 2, "running": 3},
            ],
        },
        "peak": {"replicas": 3, "memory": 3 * 2**26, "cpus": None, "free": {"memory": 2**30, "cpus": 2.0}},
        "open": [
            {"replica": "hello-1", "open": 3, "connections": {"requests": 1, "answers": 0, "websockets": 2, "tcp": 0}},
            {"replica": "hello-2", "open": 0, "connections": {"requests": 0, "answers": 0, "websockets": 0, "tcp": 0}},
        ],
        "drain_timeout": 30.0,
        "dns": {"ttl": 30.0, "meaning": "each replica leaves DNS 30 s before"} if order_removes(order) else None,
        "coarse": "coarse: no boot was seen yet of 3 at once",
        "durations": {name: {"seconds": 0.5, "of": 0} for name in ("drain", "prepare", "reload", "enable", "call")}
        | {
            "boot": {"1": {"seconds": 1.4, "of": 3}, "2": {"seconds": 2.0, "of": 2}},
            "stop": {"1": {"seconds": 0.5, "of": 0}},
        },
        "steps": [
            {"after": at, "step": step, "replica": replica, "reason": "", "words": f"{step} {replica or ''}".strip()}
            for at, step, replica in steps
        ],
        "order": order.model_dump(mode="json", exclude_unset=True, exclude={"spec", "plan"}),
        "basis": {"app": app, "kind": order.kind},
    }


def order_removes(order: Order) -> bool:
    return bool(getattr(getattr(order, "policy", None), "remove_from_dns", None))


class Served:
    """The engine's API on a port of its own; ``stop`` and ``start`` again keep the port."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.engine = engine
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._closing = asyncio.Event()
        api = create_api(self.engine, TOKEN_SHA256, closing=self._closing)
        config = uvicorn.Config(api, "127.0.0.1", self.port, log_level="critical", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        deadline = threading.Event()
        for _ in range(1000):
            if self._server.started:
                return
            deadline.wait(0.01)
        raise AssertionError("the API did not start")

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self._server.serve()

    def leave(self) -> None:
        """What a daemon does that is told to shut down: called on its own loop."""
        self._closing.set()
        self._server.should_exit = True

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._closing.set)
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def served(engine: ScriptedEngine) -> Iterator[Served]:
    server = Served(engine)
    server.start()
    try:
        yield server
    finally:
        if server._thread.is_alive():
            server.stop()


def request_view(app: str, path: str) -> View:
    asked = {"client": "192.0.2.1", "method": "GET", "host": f"{app}.localhost", "path": path, "status": 200}
    took = {"response_ms": 3, "total_ms": 5, "retries": 0, "redispatched": False, "replica": f"{app}-1"}
    return {"app": app, "at": "2026-11-22T12:00:00.000Z", **asked, **took}
