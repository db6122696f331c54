"""What is shown of DNS, as far as no test of a real server shows it."""

from __future__ import annotations

from tests.core.scenario import deployed

from rota.core.names import ReplicaId
from rota.core.observation import Address, Observation, ObservedDns, Published
from rota.engine.dns_view import dns_view


def test_a_record_that_may_be_there_or_not_is_unsure() -> None:
    simulation = deployed(replicas=2)
    assert simulation.state is not None
    published = {
        ReplicaId("web-1"): Published(Address("10.0.0.1", 1)),
        ReplicaId("web-2"): Published(Address("10.0.0.2", 1), sure=False),
        ReplicaId("web-9"): Published(Address("10.0.0.9", 1)),
    }
    shown = dns_view([(simulation.state, Observation(dns={"internal": ObservedDns(published)}))])
    assert [record["state"] for record in shown["records"]] == ["published", "unsure", "leaving"]
