"""How long one app's replicas take to boot, drain and stop, and rota's own calls.

Made by core.measured; believed by core.world, kept in a saved plan (core.order)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from rota.core.model import Model
from rota.core.observation import ObservedBalancer

NOISE = 0.01  # seconds: the end of a drain is looked for no more often (handoff.POLL)


class Length(Model):
    """Seconds, by ``of`` measurements; a guess, where there are none. Of several at once it is the last one's, and
    ``first`` the first one's."""

    seconds: float = Field(ge=0, le=1e9, allow_inf_nan=False)
    first: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)
    of: int = Field(default=0, ge=0)

    @property
    def earliest(self) -> float:
        return self.seconds if self.first is None else self.first

    def longer(self, seconds: float) -> Length:
        first = None if self.first is None else max(0.0, self.first + seconds)
        return Length(seconds=max(0.0, self.seconds + seconds), first=first, of=self.of)

    def one(self, place: int, count: int) -> Length:
        """Of so many that began at one moment the one that ends in this place, 0 the first: they end one after the
        other. One that joins others is like any of them."""
        part = place / (count - 1) if count > 1 else 0.5
        return Length(seconds=self.earliest + (self.seconds - self.earliest) * part, of=self.of)


ByNumber = Mapping[Annotated[int, Field(ge=1)], Length]


class Durations(Model):
    """``boot``: from a replica's start to its first health check that passes, by how many were starting when it did:
    a machine of few ``cores`` takes longer over several, each of which computes for ``boot_cpu`` seconds at most.
    ``drain``: from the moment at which nobody is sent to a replica any more until nothing is open. ``stop``: from the
    stop signal to its end, by how many were stopping. ``prepare``: a release unpacked and built. ``reload``: a new
    backend in HAProxy, once a reload may begin (core.observation.Reloads). ``enable``: a server into HAProxy's file and
    rotation, or out of it, or whatever else changes what HAProxy does. ``call``: a server removed, for which one looks
    at the runtime too, once for all of one moment. HAProxy is told one thing after the other: of several at once each
    takes its share. ``remove``: a replica removed with nothing beside it, and every other call on the runtime. The
    guesses for the last three are what the steps of an idle machine are apart (bench/rollout_overhead.py)."""

    boot: ByNumber = Field(default={1: Length(seconds=1.0)}, min_length=1)
    drain: Length = Length(seconds=0.0)
    stop: ByNumber = Field(default={1: Length(seconds=0.1)}, min_length=1)
    prepare: Length = Length(seconds=0.5)
    reload: Length = Length(seconds=0.3)
    enable: Length = Length(seconds=0.006)
    call: Length = Length(seconds=0.005)
    remove: Length = Length(seconds=0.005)
    boot_cpu: float = Field(default=0.0, ge=0)
    cores: float = Field(default=1.0, gt=0)

    def boot_of(self, together: int) -> Length:
        """Of so many replicas that start. Where that was never seen it is reckoned from the nearest number that was,
        the one with the longer boot of two: those that are more than the cores share them. From more at once it is
        reckoned by the first of those, which had to wait for the others the least."""
        known = _nearest(self.boot, together)
        length, share = self.boot[known], shared(known, self.cores)
        if together < known:
            length = Length(seconds=length.earliest, of=length.of)
        cpu = min(self.boot_cpu, length.seconds / share)
        return length.longer(cpu * (shared(together, self.cores) - share))

    def reckoned_from(self, together: int) -> int:
        """The number of boots at once by which ``boot_of`` knows those of so many."""
        return _nearest(self.boot, together)

    def stop_of(self, together: int) -> Length:
        """Of so many replicas that stop."""
        return self.stop[_nearest(self.stop, together)]


def shared(together: float, cores: float) -> float:
    """How much longer each of so many computes for having the cores with the others."""
    return max(1.0, together / cores)


def open_now(balancer: ObservedBalancer) -> Length:
    """The guess of a drain while none was seen: what is open may go on for as long as answers take to begin."""
    return Length(seconds=max((server.latency for server in balancer.servers.values() if server.open), default=0.0))


def _nearest(lengths: ByNumber, together: int) -> int:
    return min(lengths, key=lambda number: (abs(number - together), -lengths[number].seconds))
