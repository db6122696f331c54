"""The files of releases on this machine: unpacked and built once, in their final place; driven by the process runtime.

What is done is said durably by a marker beside the tree; work that a crash interrupted has none and begins anew. The
build is a child of the keeper: one that outlived the daemon that asked for it is found and ended, instead of writing
into the tree of its successor."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path

from rota.adapters.durable import write_durably
from rota.adapters.keeper.client import Child, ChildOrder, Children
from rota.adapters.runtime.preparations import Key, Preparations
from rota.adapters.runtime.process.cgroups import Cgroups
from rota.adapters.runtime.process.command import build_environment, executable
from rota.adapters.runtime.process.disk import flush, remove
from rota.adapters.runtime.process.layout import Account, Layout, account, make
from rota.adapters.unpack import unpack, written_disk_error
from rota.adapters.written import written_tail
from rota.core.errors import NotFound, StepFailed
from rota.core.observation import Artefact, ArtefactState
from rota.ports.runtime import ReleaseOrder
from rota.ports.source import Sources

_log = logging.getLogger(__name__)
BUILD_TIME = 1800.0  # seconds a build_command may take
_KILL_TIME = 10.0
_TOLD_LINES = 20


class Artefacts:
    """``wake(app)`` is called at each change. Between ``load`` and ``close``."""

    def __init__(
        self,
        layout: Layout,
        children: Children,
        sources: Sources,
        cgroups: Callable[[], Cgroups],
        wake: Callable[[str], None],
        *,
        path: str,
        process_user: str | None = None,
        build_time: float = BUILD_TIME,
    ) -> None:
        self._layout = layout
        self._children = children
        self._sources = sources
        self._cgroups = cgroups
        self._path = path
        self._process_user = process_user
        self._build_time = build_time
        self._preparations = Preparations(self._make, wake)
        self._made_from: dict[Key, str | None] = {}

    @property
    def known(self) -> Mapping[Key, Artefact]:
        return self._preparations.known

    def load(self) -> None:
        """Reads what is marked as done or failed."""
        for marker in self._layout.data_dir.glob("releases/*/*.json"):
            app, number = marker.parent.name, marker.stem
            if not number.isdigit():
                continue
            try:
                kept = json.loads(marker.read_bytes())
                artefact = Artefact(int(number), ArtefactState(kept["state"]), str(kept["reason"]))
            except (ValueError, KeyError, TypeError) as error:
                _log.warning("%s cannot be read (%s): release %s of %s is made again", marker, error, number, app)
                continue
            self._preparations.set((app, int(number)), artefact)
            self._made_from[app, int(number)] = kept.get("source")

    async def end_strays(self) -> None:
        """Ends the builds of an earlier daemon: nobody waits for them, and their release is made anew."""
        for child in [child for child in self._children.known.values() if "rota.build" in child.meta]:
            await self._end_build(child.name)

    async def close(self) -> None:
        await self._preparations.close()

    def prepare(self, order: ReleaseOrder) -> None:
        """Begins, unless it is done or under way; what has failed is tried again."""
        key = (order.app, order.release)
        known = self.known.get(key)
        if known is None or known.state is not ArtefactState.PREPARED or self._made_from[key] != order.source:
            self._preparations.begin(order)

    async def forget(self, app: str, keep_releases: frozenset[int]) -> None:
        """Deletes the files of all other releases. Raises StepFailed when the disk refuses."""
        every = {*self.known, *self._preparations.under_way}
        for key in [key for key in every if key[0] == app and key[1] not in keep_releases]:
            await self._preparations.cancel(key)
            await self._clear(*key)
            self._preparations.forget(key)

    async def _make(self, order: ReleaseOrder) -> None:
        key = (order.app, order.release)
        try:
            await self._clear(*key)
            await self._unpack_and_build(order)
            await self._mark(order, Artefact(order.release, ArtefactState.PREPARED))
        except StepFailed as failure:
            await self._fail(order, failure.message)
        except NotFound as missing:
            await self._fail(order, missing.message)
        except OSError as error:
            await self._fail(order, written_disk_error(error, self._layout.data_dir))

    async def _unpack_and_build(self, order: ReleaseOrder) -> None:
        owner = account(order.spec.user or self._process_user)
        releases, final = self._layout.releases(order.app), self._layout.release(order.app, order.release)
        make(releases)
        self._layout.open_to(owner, releases.parent, releases)
        staging = self._staging(order.app, order.release)
        await asyncio.to_thread(remove, staging)
        if order.source is None:
            make(staging, owner)
        else:
            archive = self._sources.path(order.source)
            ids = (owner.uid, owner.gid) if owner else None
            await _to_its_end(asyncio.to_thread(unpack, archive, staging, owner=ids))
        staging.rename(final)
        if order.spec.build_command is not None:
            await self._build(order, owner)
        await asyncio.to_thread(flush, final)

    async def _build(self, order: ReleaseOrder, owner: Account | None) -> None:
        home = self._layout.build_home(order.app, order.release)
        make(home, owner)
        directory = self._layout.release(order.app, order.release)
        environment = build_environment(order.app, order.release, order.spec, home, self._path)
        name = _build_name(order.app, order.release)
        argv = executable(order.spec.build_command or (), directory, environment)
        await self._children.start(
            ChildOrder(
                name=name,
                argv=argv,
                env=environment,
                cwd=str(directory),
                user=owner.name if owner else None,
                log=str(self._layout.build_log(order.app, order.release)),
                cgroups=self._cgroups().create(name),
                meta={"rota.build": order.app},
            )
        )
        ended = await self._end_of_build(name)
        reason = self._reason(order, ended)
        await self._end_build(name)
        await asyncio.to_thread(remove, home)
        if reason:
            raise StepFailed(reason)

    async def _end_of_build(self, name: str) -> Child | None:
        """None when the time was up; a keeper that was lost meanwhile has no word on how it ended."""
        try:
            return await self._children.until(name, lambda child: child is None or not child.alive, self._build_time)
        except TimeoutError:
            return None

    def _reason(self, order: ReleaseOrder, ended: Child | None) -> str:
        if ended is not None and ended.exit_code == 0:
            return ""
        command = " ".join(order.spec.build_command or ())
        if ended is None:
            what = f"was still running after {self._build_time / 60:g} min and was ended"
        elif ended.signal is not None:
            what = "ran out of memory" if ended.oom_hint else f"was ended by signal {ended.signal}"
        elif ended.exit_code is not None:
            what = f"ended with exit code {ended.exit_code}"
        else:
            what = "ended while nobody could see how (the keeper was lost); deploy again"
        log = self._layout.build_log(order.app, order.release)
        return "\n".join([f"build_command {command!r} {what}", *written_tail(log, _TOLD_LINES)])

    async def _clear(self, app: str, release: int) -> None:
        """Nothing is left of the release; the marker goes first, and what still builds is ended."""
        await asyncio.to_thread(remove, self._layout.marker(app, release))
        await self._end_build(_build_name(app, release))
        for path in (
            self._staging(app, release),
            self._layout.release(app, release),
            self._layout.build_home(app, release),
            self._layout.build_log(app, release),
        ):
            await asyncio.to_thread(remove, path)

    async def _end_build(self, name: str) -> None:
        child = self._children.known.get(name)
        if child is None:
            return
        await self._children.signal(name, "KILL", tree=True, restart=False)
        try:
            await self._children.until(name, lambda found: found is None or not found.alive, _KILL_TIME)
        except TimeoutError:
            raise StepFailed(f"{name} does not end, even by SIGKILL") from None
        await self._children.forget(name)
        await self._cgroups().remove(child.cgroups)

    def _staging(self, app: str, release: int) -> Path:
        return self._layout.releases(app) / f".{release}.new"

    async def _mark(self, order: ReleaseOrder, artefact: Artefact) -> None:
        marker = self._layout.marker(order.app, order.release)
        text = json.dumps({"state": artefact.state.value, "reason": artefact.reason, "source": order.source})
        await asyncio.to_thread(write_durably, marker, text)
        self._made_from[order.app, order.release] = order.source
        self._preparations.set((order.app, order.release), artefact)

    async def _fail(self, order: ReleaseOrder, reason: str) -> None:
        _log.warning("release %d of %s cannot be prepared: %s", order.release, order.app, reason)
        artefact = Artefact(order.release, ArtefactState.FAILED, reason)
        try:
            await self._mark(order, artefact)
        except OSError as error:
            _log.warning("nor can that be put on record: %s", error)
            self._preparations.set((order.app, order.release), artefact)


def _build_name(app: str, release: int) -> str:
    return f"build.{app}.{release}"


async def _to_its_end(work: Coroutine[None, None, None]) -> None:
    """A thread cannot be cancelled: whoever cancels this waits until it has stopped writing."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
