"""Questions about other names, and who may ask them."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import dns.message
import dns.query
import dns.rcode
import dns.rrset
import pytest
from tests.nameserver.conftest import RunningNameServer

from rota.nameserver.allowance import ALL_RATE, BURST, RATE, Allowance, parse_networks
from rota.nameserver.answers import Answers, Elsewhere
from rota.nameserver.table import Table
from rota.testing.server import free_port

Run = Callable[..., RunningNameServer]


def _reply(wire: bytes) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(wire))
    reply.answer.append(dns.rrset.from_text(reply.question[0].name, 60, "IN", "A", "192.0.2.9"))
    return reply.to_wire()


class _Tcp(socketserver.ThreadingTCPServer):
    allow_reuse_address = True


class _OverUdp(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        wire, line = self.request
        line.sendto(_reply(bytes([wire[0] ^ 1]) + wire[1:]), self.client_address)  # forged: another id
        line.sendto(_reply(wire), self.client_address)


class _OverTcp(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        (length,) = struct.unpack("!H", self.rfile.read(2))
        reply = _reply(self.rfile.read(length))
        self.wfile.write(struct.pack("!H", len(reply)) + reply)


@pytest.fixture
def resolver() -> Iterator[None]:
    """Stands for the host's: on port 53 of an address of the loopback that nobody else has."""
    servers = (
        socketserver.ThreadingUDPServer(("127.53.53.53", 53), _OverUdp),
        _Tcp(("127.53.53.53", 53), _OverTcp),
    )
    for server in servers:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield
    for server in servers:
        server.shutdown()
        server.server_close()


def resolv_conf(directory: Path, *hosts: str) -> Path:
    path = directory / "resolv.conf"
    path.write_text("".join(f"nameserver {host}\n" for host in hosts))
    return path


@pytest.mark.usefixtures("resolver")
def test_other_names_are_asked_of_the_host_s_resolvers(
    run_nameserver: Run, tmp_path: Path, component: Callable[[str], Path]
) -> None:
    component("root")  # port 53
    path = resolv_conf(tmp_path, "not-an-address", "127.53.53.54", "127.53.53.53")
    nameserver = run_nameserver("--resolv-conf", str(path))
    assert nameserver.texts("www.example.org") == ["192.0.2.9"]
    assert nameserver.ask("www.example.org", tcp=True).answer[0][0].to_text() == "192.0.2.9"


def test_it_answers_on_each_of_its_addresses(run_nameserver: Run) -> None:
    port = free_port()
    run_nameserver("--listen", f"127.0.0.2:{port}")
    query = dns.message.make_query("rota.internal", "SOA")
    assert dns.query.udp(query, "127.0.0.2", timeout=5, port=port).answer
    assert dns.query.tcp(query, "127.0.0.2", timeout=5, port=port).answer


def test_with_no_resolver_it_says_that_it_failed(run_nameserver: Run, tmp_path: Path) -> None:
    nameserver = run_nameserver("--resolv-conf", str(resolv_conf(tmp_path)))
    assert nameserver.ask("www.example.org").rcode() == dns.rcode.SERVFAIL
    assert nameserver.ask("www.example.org", tcp=True).rcode() == dns.rcode.SERVFAIL
    path = tmp_path / "resolv.conf"
    path.unlink()
    assert nameserver.ask("www.example.org").rcode() == dns.rcode.SERVFAIL


def test_strangers_get_rota_s_names_a_few_times_and_no_others() -> None:
    now = 0.0
    allowance = Allowance(parse_networks(["127.0.0.0/8", "fd00::/8"]), lambda: now)
    assert allowance.is_known("127.0.0.5")
    assert allowance.is_known("::ffff:127.0.0.5")
    assert allowance.is_known("fd00::1%eth0")
    assert not allowance.is_known("192.0.2.1")
    assert not allowance.is_known("2001:db8::1")
    given = sum(allowance.take("192.0.2.1") for _ in range(1000))
    assert given == BURST
    assert not allowance.take("192.0.2.200"), "a neighbour has the same bucket"
    assert allowance.take("198.51.100.1")
    now = 1.0
    assert sum(allowance.take("192.0.2.1") for _ in range(1000)) == RATE
    now = 10.0
    many = sum(allowance.take(f"10.{number // 250}.{number % 250}.1") for number in range(2000))
    assert many == ALL_RATE


def test_the_memory_of_strangers_is_bounded() -> None:
    allowance = Allowance(parse_networks(["127.0.0.0/8"]), lambda: 0.0)
    for number in range(10_000):
        host = f"10.{number // 250}.{number % 250}.1"
        assert not allowance.is_known(host)
        allowance.take(host)
    assert len(allowance._known) <= 4096
    assert len(allowance._buckets) <= 4096


def test_a_client_outside_is_refused_other_names() -> None:
    """By the parts: from here every client is the loopback's."""
    answers = Answers(Table.parse(b'{"version": 1, "ttl": 1, "replicas": []}'))
    wire = dns.message.make_query("www.example.org", "A").to_wire()
    assert answers.answer(wire, udp=True) is Elsewhere.ASKED
    refused = dns.message.from_wire(answers.refusal(wire))
    assert refused.rcode() == dns.rcode.REFUSED
    assert refused.id == dns.message.from_wire(wire).id
