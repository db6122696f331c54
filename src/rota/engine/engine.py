"""The engine's face: what may be asked of it and what it shows; called by the API (its EngineFace protocol)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace

from rota.core import diagnosis, steering
from rota.core.admission import admit
from rota.core.capacity import Room
from rota.core.diagnosis import Finding
from rota.core.errand import Errand
from rota.core.errors import Conflict, Missing, NotFound
from rota.core.events import EventKind
from rota.core.order import Order
from rota.core.rollout import Phase, Rollout
from rota.core.state import AppState
from rota.engine import views
from rota.engine.dns_view import dns_view
from rota.engine.errands import Errands
from rota.engine.following import Following
from rota.engine.measuring import Measuring
from rota.engine.plan_view import plan_view
from rota.engine.planner import Planner, promised
from rota.engine.reconciler import Reconciler
from rota.engine.rooms import Rooms
from rota.engine.sites import listeners, owners, urls_of
from rota.engine.statistics import Statistics
from rota.engine.supervisor import Supervisor
from rota.engine.time_left import TimeLeft
from rota.engine.vetting import Vetting
from rota.engine.views import View
from rota.ports.access import AccessLog
from rota.ports.balancer import Balancer
from rota.ports.certificates import Certificates
from rota.ports.clock import Clock
from rota.ports.exec import Exec
from rota.ports.logs import Logs
from rota.ports.machine import Machine
from rota.ports.notifier import Notifier
from rota.ports.runtime import Runtime
from rota.ports.source import Sources
from rota.ports.store import Answer, Store
from rota.ports.usage import Usage

STEPS_SHOWN = 2000  # events of one rollout, the newest


class Engine:
    """``about`` is what the composition root knows of this server, ``examine`` what it finds about the host;
    ``own_ports`` and ``behind_proxies`` as in Vetting; ``on_shutdown`` ends it."""

    def __init__(
        self,
        supervisor: Supervisor,
        *,
        store: Store,
        sources: Sources,
        runtime: Runtime,
        machine: Machine,
        usage: Usage,
        certificates: Certificates,
        balancer: Balancer,
        logs: Logs,
        access: AccessLog,
        exec: Exec,
        clock: Clock,
        notifier: Notifier,
        about: Callable[[], View],
        examine: Callable[[], Sequence[Finding]],
        http: str,
        own_ports: Mapping[str, range],
        behind_proxies: bool,
        on_shutdown: Callable[[bool], None],
    ) -> None:
        self.sources = sources
        self._supervisor = supervisor
        self._store = store
        self._runtime = runtime
        self._rooms = Rooms(machine, runtime, usage)
        self._statistics = Statistics(usage, balancer, clock)
        self._balancer = balancer
        self._certificates = certificates
        self._following = Following(supervisor, store, logs)
        self._access = access
        self._errands = Errands(exec)
        self._clock = clock
        self._vetting = Vetting(runtime, balancer, notifier, own_ports, behind_proxies)
        self._about = about
        self._examine = examine
        self._http = http
        self._on_shutdown = on_shutdown
        self._ordering = asyncio.Lock()
        self._ending = False
        self._planner = Planner(Measuring(store, supervisor, usage, machine), balancer, clock)
        self._time_left = TimeLeft(Measuring(store, supervisor, usage, machine), clock)

    # What it shows

    def apps(self) -> list[View]:
        return [self._app_view(app) for _, app in sorted(self._supervisor.apps.items())]

    async def app(self, name: str) -> View:
        app = self._supervisor.app(name)
        shown = self._app_view(app) | await self.replicas(name)
        last = app.state.recorded.rollout
        release = app.state.releases.get(app.state.desired.current.release)
        shown["rollout"] = await self._rollout_view(last) if last else None
        shown["spec"] = views.spec_view(release.spec) if release else {}
        return shown

    async def replicas(self, name: str) -> View:
        """With what is open to them now: the loop need not have looked for half a minute."""
        app = self._supervisor.app(name)
        seen = views.with_open(app.observation, (await self._balancer.observe()).get(name))
        here = views.situation(app.state, seen, self._clock.now())
        shown = [views.replica_view(member, here) for member in views.members(here)]
        return {"app": name, "maintenance": app.state.desired.maintenance, "replicas": shown}

    def dns(self) -> View:
        """What DNS says of every app's replicas."""
        return dns_view((app.state, app.observation) for _, app in sorted(self._supervisor.apps.items()))

    async def stats(self, name: str | None) -> list[View]:
        """What the replicas of an app, or of every app, use and serve."""
        apps = [self._supervisor.app(name)] if name is not None else list(self._supervisor.apps.values())
        return await self._statistics.of([(app.state, app.observation) for app in apps])

    def releases(self, name: str) -> View:
        state = self._supervisor.app(name).state
        newest_first = sorted(state.releases.values(), key=lambda release: -release.number)
        return {"app": name, "releases": [views.release_view(release, state) for release in newest_first]}

    async def rollouts(self, app: str | None, limit: int) -> list[View]:
        kept = await self._store.rollouts(app, limit)
        if app is not None and not kept:
            self._supervisor.app(app)
        return [self._without_steps(rollout) for rollout in kept]

    async def rollout(self, id: str) -> View:
        return await self._rollout_view(await self._kept_rollout(id))

    def server(self) -> View:
        return self._about() | {"apps": len(self._supervisor.apps)}

    async def doctor(self, app: str | None) -> View:
        """What is wrong: with one app, or with all of them, the notices and the host."""
        names = [app] if app is not None else sorted(self._supervisor.apps)
        found: list[Finding] = []
        for known in map(self._supervisor.app, names):
            found += diagnosis.of_app(views.situation(known.state, known.observation, self._clock.now()))
        found += diagnosis.of_strangers(self._runtime.strangers(), app)
        if app is None:
            found += diagnosis.of_letters(await self._store.unsent())
            found += diagnosis.of_connections(await self._statistics.connections())
            found += diagnosis.of_certificates(await self._certificates.certificates(), self._clock.now())
            found.append(diagnosis.of_dns(self._about().get("dns")))
            found += await asyncio.to_thread(self._examine)
        return {"findings": [{"level": one.level.value, "about": one.about, "said": one.said} for one in found]}

    async def ready(self) -> None:
        """Raises Missing or StepFailed naming what does not answer."""
        await self._store.answer("")
        await self._runtime.observe()
        if await self._balancer.answering() is None:
            raise Missing("HAProxy does not answer")

    # What may be asked of it

    async def begin(self, app: str, order: Order) -> View:
        """Starts a rollout and returns its view. Raises the errors of core.admission.admit, StalePlan, and SpecError
        for what the server's runtime cannot run and for an address to which no notice can be sent."""
        await self._vetting.addresses(order)
        async with self._ordering:
            if self._ending:
                raise Conflict("the server is being stopped; give the order to the next one")
            known = self._supervisor.apps.get(app)
            ordered = await self._begun(app, order)
            if order.plan is not None:
                await self._planner.check(known, ordered(known.state if known else None), order.plan)
            if known is None:
                known = await self._supervisor.add(ordered(None))
            else:
                await known.change(ordered)
        rollout = known.state.recorded.rollout
        assert rollout is not None  # every order leaves one
        return self._without_steps(rollout)

    async def plan(self, app: str, order: Order) -> View:
        """What the order would do; nothing is changed. Raises the errors of ``begin``, and Missing while HAProxy does
        not answer."""
        known = self._supervisor.apps.get(app)
        ordered = await self._begun(app, order)
        made = await self._planner.plan(known, ordered(known.state if known else None))
        return plan_view(made, order, (await self._room(app)).free, (await self._statistics.connections()).open)

    async def pause(self, rollout: str) -> View:
        return await self._ask(rollout, steering.pause)

    async def resume(self, rollout: str) -> View:
        return await self._ask(rollout, steering.resume)

    async def abort(self, rollout: str) -> View:
        return await self._ask(rollout, steering.abort)

    async def skip(self, rollout: str, asked: steering.Skip) -> View:
        return await self._ask_of_state(rollout, lambda state, running: steering.skip(state, running, asked))

    async def tune(self, rollout: str, asked: steering.Pace) -> View:
        return await self._ask_of_state(rollout, lambda state, running: steering.tune(state, running, asked))

    async def maintain(self, name: str, on: bool) -> View:
        """Keeps an app's users out, or lets them in again."""

        def change(state: AppState) -> AppState:
            if state.desired.removed:
                raise Conflict(f"{name} is being removed")
            return replace(state, desired=replace(state.desired, maintenance=on))

        await self._supervisor.app(name).change(change)
        return await self.app(name)

    async def exec(self, app: str, errand: Errand) -> View:
        """Runs a command in one of the app's replicas. Raises NotFound and StepFailed."""
        return await self._errands.run(self._supervisor.app(app), errand)

    async def shutdown(self, keep_apps: bool) -> None:
        """Nothing is begun any more from here on: who is to stop all apps would not know of it."""
        self._ending = True
        self._on_shutdown(keep_apps)

    # Streams

    async def events(self, *, app: str | None, rollout: str | None, after: int, limit: int) -> list[View]:
        found = await self._store.events(app=app, rollout=rollout, after=after or -1, limit=limit)
        return [views.event_view(event) for event in found]

    async def follow_events(
        self, *, app: str | None = None, rollout: str | None = None, after: int
    ) -> AsyncIterator[View]:
        """Events over ``after``, then new ones; with ``rollout``, ends after that rollout's last event, and what it
        has come to is told between them (kind ``progress``, no event and without a number)."""
        if rollout is not None and (await self._ended_before(rollout, after)):
            return
        told: View | None = None
        async for event in self._supervisor.journal.follow(app=app, rollout=rollout, after=after):
            yield views.event_view(event)
            if rollout is not None and event.kind is EventKind.PHASE and Phase(event.phase).ended:
                return
            progress = await self._progress(rollout) if rollout is not None else None
            if progress is not None and progress != told:
                told = progress
                yield {"kind": "progress", "rollout": rollout, "progress": progress}

    async def _progress(self, id: str) -> View | None:
        """Of a rollout under way."""
        for app in self._supervisor.apps.values():
            rollout = app.state.recorded.running_rollout
            if rollout is not None and rollout.id == id:
                return views.progress_view(rollout, app.state, await self._time_left.of(app))
        return None

    async def log_lines(self, app: str, replica: str | None, tail: int) -> list[View]:
        return await self._following.tail(app, replica, tail)

    def follow_logs(self, app: str, replica: str | None, tail: int) -> AsyncIterator[View]:
        return self._following.follow(app, replica, tail)

    async def requests(self, app: str, tail: int) -> list[View]:
        return [views.request_view(entry) for entry in await self._access.tail(app, tail)]

    async def follow_requests(self, app: str, tail: int) -> AsyncIterator[View]:
        async for entry in self._access.follow(app, tail):
            yield views.request_view(entry)

    # Idempotency

    async def remembered(self, key: str) -> tuple[str, int, View] | None:
        """The fingerprint of the request that used this idempotency key, and the status and body it was given."""
        answer = await self._store.answer(key)
        return (answer.fingerprint, answer.status, json.loads(answer.body)) if answer else None

    async def remember(self, key: str, fingerprint: str, status: int, body: View) -> None:
        await self._store.keep_answer(key, Answer(fingerprint, status, json.dumps(body)))

    def _app_view(self, app: Reconciler) -> View:
        release = app.state.releases.get(app.state.desired.current.release)
        urls = urls_of(release.spec, self._http) if release else []
        return views.app_view(app.state, app.observation, self._clock.now(), urls)

    async def _rollout_view(self, rollout: Rollout) -> View:
        events = await self._store.events(rollout=rollout.id, after=-1, limit=STEPS_SHOWN)
        app = self._supervisor.apps.get(rollout.app)
        if app is None or app.state.recorded.running_rollout != rollout:
            return views.rollout_view(rollout, app.state if app else None, app.observation if app else None, events)
        left = await self._time_left.of(app)
        return views.rollout_view(rollout, app.state, app.observation, events, left)

    def _without_steps(self, rollout: Rollout) -> View:
        app = self._supervisor.apps.get(rollout.app)
        return views.rollout_view(rollout, app.state if app else None, app.observation if app else None, [])

    async def _kept_rollout(self, id: str) -> Rollout:
        for app in self._supervisor.apps.values():
            rollout = app.state.recorded.rollout
            if rollout is not None and rollout.id == id:
                return rollout
        kept = await self._store.rollout(id)
        if kept is None:
            raise NotFound(f"there is no rollout {id!r}; rota rollout ls lists them")
        return kept

    async def _room(self, app: str) -> Room:
        return await self._rooms.beside(other.state for name, other in self._supervisor.apps.items() if name != app)

    async def _begun(self, app: str, order: Order) -> Callable[[AppState | None], AppState]:
        """From the app's state to the one that the order leaves. Raises SpecError and Conflict."""
        await self._vetting.file(order)
        hosts, room, removed = owners(self._supervisor.apps, app), await self._room(app), None
        heard = listeners(self._supervisor.apps, app)
        if app not in self._supervisor.apps:
            removed = next(iter(await self._store.rollouts(app, 1)), None)
        return lambda state: promised(admit(state, order, app, self._clock.now(), hosts, room, removed, heard), order)

    async def _ask(self, id: str, ask: Callable[[Rollout, float], Rollout]) -> View:
        return await self._ask_of_state(id, lambda state, rollout: ask(rollout, self._clock.now()))

    async def _ask_of_state(self, id: str, ask: Callable[[AppState, Rollout], Rollout]) -> View:
        rollout = await self._kept_rollout(id)
        if rollout.phase.ended:
            raise Conflict(f"{id} has ended: {rollout.phase.value.replace('_', ' ')}")
        app = self._supervisor.app(rollout.app)

        def change(state: AppState) -> AppState:
            running = state.recorded.running_rollout
            if running is None or running.id != id:
                raise Conflict(f"{id} has ended")
            return replace(state, recorded=replace(state.recorded, rollout=ask(state, running)))

        after = await app.change(change)
        assert after.recorded.rollout is not None  # asked by change
        return self._without_steps(after.recorded.rollout)

    async def _ended_before(self, id: str, after: int) -> bool:
        """Whether nothing of the rollout is to come after event ``after``."""
        rollout = await self._kept_rollout(id)
        return rollout.phase.ended and not await self._store.events(rollout=id, after=after, limit=1)
