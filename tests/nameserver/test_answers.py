"""What the internal name server answers, over the wire."""

from __future__ import annotations

from collections.abc import Callable

import dns.flags
import dns.message
import dns.rcode
import pytest
from tests.nameserver.conftest import RunningNameServer, entry

Run = Callable[..., RunningNameServer]


@pytest.mark.feature("J3", "V5")
def test_an_app_s_name_gives_its_replicas(nameserver: RunningNameServer) -> None:
    answer = nameserver.ask("web.rota.internal")
    assert answer.flags & dns.flags.AA
    assert {record.to_text() for record in answer.answer[0]} == {"10.0.0.1", "10.0.0.2"}
    assert answer.answer[0].ttl == 1
    assert nameserver.texts("web.rota.internal", "AAAA") == ["fd00::3"]
    assert sorted(nameserver.texts("WEB.Rota.Internal", "TXT")) == ['"release=1"', '"release=2"']


def test_slots_replicas_and_services_have_names_too(nameserver: RunningNameServer) -> None:
    assert nameserver.texts("2.web.rota.internal") == ["10.0.0.2"]
    assert nameserver.texts("web-2.web.rota.internal") == ["10.0.0.2"]
    assert nameserver.texts("web-2.web.rota.internal", "TXT") == ['"release=1"']
    services = nameserver.texts("_http._tcp.web.rota.internal", "SRV")
    assert sorted(services) == [f"0 1 2000{number} web-{number}.web.rota.internal." for number in (1, 2, 3)]


def test_the_order_goes_round(nameserver: RunningNameServer) -> None:
    firsts = [nameserver.texts("web.rota.internal")[0] for _ in range(8)]
    assert firsts.count("10.0.0.1") == firsts.count("10.0.0.2") == 4
    services = [nameserver.texts("_http._tcp.web.rota.internal", "SRV")[0] for _ in range(9)]
    assert sorted(services.count(one) for one in set(services)) == [3, 3, 3]


@pytest.mark.parametrize(
    ("name", "kind", "rcode"),
    [
        ("other.rota.internal", "A", dns.rcode.NXDOMAIN),
        ("9.web.rota.internal", "A", dns.rcode.NXDOMAIN),
        ("2.web.rota.internal", "AAAA", dns.rcode.NOERROR),
        ("web.rota.internal", "MX", dns.rcode.NOERROR),
        ("_tcp.web.rota.internal", "SRV", dns.rcode.NOERROR),
        ("rota.internal", "A", dns.rcode.NOERROR),
    ],
)
def test_what_is_not_there_comes_with_the_soa(
    name: str, kind: str, rcode: dns.rcode.Rcode, nameserver: RunningNameServer
) -> None:
    answer = nameserver.ask(name, kind)
    assert answer.rcode() == rcode
    assert answer.answer == []
    (soa,) = answer.authority
    assert soa.name.to_text() == "rota.internal."
    assert soa.ttl == soa[0].minimum == 1


def test_the_serial_counts_the_table_s_changes(nameserver: RunningNameServer) -> None:
    before = nameserver.ask("rota.internal", "SOA").answer[0][0].serial
    nameserver.set(entry(1))
    assert nameserver.ask("rota.internal", "SOA").answer[0][0].serial == before + 1
    assert nameserver.texts("web.rota.internal") == ["10.0.0.1"]


def test_many_replicas_are_told_over_tcp(nameserver: RunningNameServer) -> None:
    nameserver.set(*(entry(number, host=f"10.0.1.{number}") for number in range(1, 201)))
    plain = nameserver.ask("web.rota.internal", use_edns=False)
    assert plain.flags & dns.flags.TC
    assert len(plain.to_wire()) <= 512
    more = nameserver.ask("web.rota.internal", use_edns=0, payload=4096)
    assert more.flags & dns.flags.TC
    assert len(more.to_wire()) <= 1232
    assert len(nameserver.ask("web.rota.internal", tcp=True).answer[0]) == 200
    nameserver.set(*(entry(number, host=f"10.0.1.{number}") for number in range(1, 61)))
    assert len(nameserver.ask("web.rota.internal", use_edns=0, payload=4096).answer[0]) == 60


def test_of_edns_only_version_0_is_spoken(nameserver: RunningNameServer) -> None:
    assert nameserver.ask("web.rota.internal", use_edns=0, payload=1232).edns == 0
    assert nameserver.ask("web.rota.internal", use_edns=1).rcode() == dns.rcode.BADVERS
    assert nameserver.ask("web.rota.internal", use_edns=False).edns == -1


def test_a_table_that_cannot_be_read_leaves_the_last_one_in_force(nameserver: RunningNameServer) -> None:
    nameserver.table.write_text("{")
    assert "holds no table" in nameserver.load()["error"]
    assert nameserver.texts("1.web.rota.internal") == ["10.0.0.1"]


def test_without_any_table_it_fails_instead_of_denying(run_nameserver: Run) -> None:
    nameserver = run_nameserver()
    nameserver.table.write_text("")
    nameserver.end_process()
    nameserver.start()
    assert nameserver.ask("web.rota.internal").rcode() == dns.rcode.SERVFAIL


def test_a_signal_has_it_read_the_table_too(nameserver: RunningNameServer) -> None:
    nameserver.write(entry(7, host="10.0.0.7"))
    nameserver.reload_by_signal()
    nameserver.until(lambda: nameserver.texts("web.rota.internal") == ["10.0.0.7"])
