"""FakeDns: one view of DNS in memory, with faults to order; used by the tests of the engine and held to the real ones
by tests/contract."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import DnsEntry, ObservedDns, Published


class FakeDns:
    """``zone`` empty is rota's own names: then it is there for every app. ``calls`` are all that were made, in order,
    failed ones too: ``("publish", "hello-1")``. ``seen`` may be changed by a test."""

    def __init__(self, zone: str = "", ttl: float = 1.0, *, required: bool = False) -> None:
        self.zone = zone
        self.required = required
        self.calls: list[tuple[str, str]] = []
        self.seen: dict[str, dict[ReplicaId, Published]] = {}
        self.trouble = ""
        """While not empty nothing is changed, and it is what is wrong."""
        self._shown = ObservedDns(ttl=ttl, required=required)
        self._faults: Counter[str] = Counter()
        self._torn = False
        self._wakes: list[Callable[[str], None]] = []

    def fail(self, call: str, times: int = 1) -> None:
        """The next ``times`` calls of that name raise StepFailed and change nothing."""
        self._faults[call] = times

    def lose(self, trouble: str = "the update server does not answer") -> None:
        self.trouble = trouble
        self._wake_all()

    def restore(self) -> None:
        self.trouble = ""
        self._wake_all()

    def tear(self) -> None:
        """The next call raises StepFailed, and nobody knows whether it changed anything."""
        self._torn = True

    async def observe(self, app: str, hosts: frozenset[str]) -> ObservedDns | None:
        ours = self.ours(hosts)
        if self.zone and not ours:
            return None
        hosts_shown = ours if self.zone else None
        return replace(self._shown, published=dict(self.seen.get(app, {})), hosts=hosts_shown, trouble=self.trouble)

    def on_change(self, wake: Callable[[str], None]) -> None:
        self._wakes.append(wake)

    async def publish(self, app: str, entry: DnsEntry) -> None:
        self._begin("publish", entry.replica)
        torn = self._tear()
        shown = Published(entry.address, self.ours(entry.hosts), sure=not torn)
        self.seen.setdefault(app, {})[entry.replica] = shown
        if torn:
            raise StepFailed("DNS did not say what became of it")

    async def withdraw(self, app: str, replica: ReplicaId) -> None:
        self._begin("withdraw", replica)
        shown = self.seen.get(app, {}).pop(replica, None)
        if self._tear():
            if shown is not None:
                self.seen[app][replica] = replace(shown, sure=False)
            raise StepFailed("DNS did not say what became of it")

    def _begin(self, call: str, subject: str) -> None:
        self.calls.append((call, subject))
        if self.trouble:
            raise StepFailed(self.trouble)
        if self._faults[call] > 0:
            self._faults[call] -= 1
            raise StepFailed("DNS refused")

    def _tear(self) -> bool:
        torn, self._torn = self._torn, False
        return torn

    def ours(self, hosts: frozenset[str]) -> frozenset[str]:
        """Those that lie in the zone."""
        return frozenset(host for host in hosts if self.zone and f".{host}".endswith(f".{self.zone}"))

    def _wake_all(self) -> None:
        for wake in self._wakes:
            for app in list(self.seen):
                wake(app)
