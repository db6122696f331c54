"""What only this server can say against an order, asked before it is begun or planned; called by the engine's face."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rota.core.errors import Conflict, Problem, SpecError, UsageError
from rota.core.fitness import misfits
from rota.core.order import Deploy, Order
from rota.core.spec import AppSpec
from rota.core.tcp import reserved
from rota.ports.balancer import Balancer
from rota.ports.notifier import Notifier
from rota.ports.runtime import Runtime


class Vetting:
    """``own_ports`` are rota's own by what they are for; ``behind_proxies``: there are proxies whose word counts."""

    def __init__(
        self,
        runtime: Runtime,
        balancer: Balancer,
        notifier: Notifier,
        own_ports: Mapping[str, range],
        behind_proxies: bool,
    ) -> None:
        self._runtime = runtime
        self._balancer = balancer
        self._notifier = notifier
        self._own_ports = own_ports
        self._behind_proxies = behind_proxies

    async def addresses(self, order: Order) -> None:
        """Raises SpecError for an address to which no notice can be sent."""
        try:
            await self._notifier.check(*(order.spec.notify if isinstance(order, Deploy) else ()))
        except UsageError as error:
            raise SpecError([Problem(f"notify: {error}", key="notify")]) from error

    async def file(self, order: Order) -> None:
        """Raises SpecError for what cannot be run, or listen, on this server, Conflict for a port in use."""
        if not isinstance(order, Deploy):
            return
        found = [Problem(reason, key=key) for key, reason in misfits(order.spec, self._runtime.kind).items()]
        found += self._ports(order.spec)
        if found:
            raise SpecError(found)
        in_use = await self._balancer.refusal(order.spec.name, order.spec.listeners)
        if in_use:
            raise Conflict(f"{in_use}; end what has the port, or give listen: another one")

    def _ports(self, spec: AppSpec) -> Iterator[Problem]:
        for index, listener in enumerate(spec.listeners):
            owner = reserved(listener, self._own_ports)
            if owner is not None:
                reason = f"ports.listen: {listener.port} is {owner}; choose another one"
                yield Problem(reason, key=f"ports.{index}.listen")
            if listener.behind_proxy and not self._behind_proxies:
                reason = "ports.accept_proxy: no proxy is believed here; name them: rota serve --trusted-proxies"
                yield Problem(reason, key=f"ports.{index}.accept_proxy")
