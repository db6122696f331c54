"""Packets that are no questions: none of them ends the name server, and none makes it say much."""

from __future__ import annotations

import random
import socket
import struct
from pathlib import Path

import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.nameserver.conftest import RunningNameServer

from rota.nameserver.answers import Answers, Elsewhere
from rota.nameserver.table import Table, Unreadable

REPLICA = b'{"app": "web", "replica": "web-1", "slot": 1, "release": 1, "host": "10.0.0.1", "port": 20001}'
ANSWERS = Answers(Table.parse(b'{"version": 1, "ttl": 1, "replicas": [' + REPLICA + b"]}"))
GOOD = dns.message.make_query("web.rota.internal", "A", use_edns=0, payload=1232).to_wire()


def _is_an_answer(wire: bytes, answer: bytes | Elsewhere | None) -> None:
    if answer is None:
        assert len(wire) < 12 or wire[2] & 0x80
    elif isinstance(answer, bytes):
        assert answer[:2] == wire[:2]
        assert answer[2] & 0x80
        assert len(answer) <= 1232


@given(st.binary(max_size=600))
def test_any_bytes(wire: bytes) -> None:
    _is_an_answer(wire, ANSWERS.answer(wire, udp=True))


@given(st.data())
def test_a_question_with_bytes_changed_cut_off_and_put_in(data: st.DataObject) -> None:
    wire = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 6))):
        wire[data.draw(st.integers(0, len(wire) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(wire)))
    tail = data.draw(st.binary(max_size=40))
    for made in (bytes(wire), bytes(wire[:cut]), bytes(wire) + tail):
        _is_an_answer(made, ANSWERS.answer(made, udp=True))


@pytest.mark.parametrize(
    ("flags", "rest", "rcode"),
    [
        (0x2800, struct.pack("!4H", 1, 0, 0, 0), dns.rcode.NOTIMP),  # an update
        (0x0000, struct.pack("!4H", 0, 0, 0, 0), dns.rcode.FORMERR),  # no question
        (0x0000, struct.pack("!4H", 2, 0, 0, 0) + b"\0\0\1\0\1" * 2, dns.rcode.FORMERR),
        (0x0000, struct.pack("!4H", 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1", dns.rcode.FORMERR),  # a name that is itself
        (0x0000, struct.pack("!4H", 1, 0, 0, 0) + b"\0\0\1\0\3", dns.rcode.REFUSED),  # class CHAOS
    ],
)
def test_what_is_wrong_is_named(flags: int, rest: bytes, rcode: dns.rcode.Rcode) -> None:
    answer = ANSWERS.answer(struct.pack("!2H", 7, flags) + rest, udp=True)
    assert isinstance(answer, bytes)
    assert answer[3] & 0xF == rcode


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"version": 1, "ttl": 1, "replicas": [{}]}', b"\xff"])
def test_a_file_that_is_no_table_is_said_to_be_none(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_bytes(text)
    with pytest.raises(Unreadable, match="holds no table"):
        Table.read(path)


def test_the_process_lives_through_all_of_it(nameserver: RunningNameServer) -> None:
    dice = random.Random(7)  # noqa: S311
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as line:
        for _ in range(2000):
            length = dice.choice([0, 1, 11, 12, 30, 600, 9000])
            junk = (
                dice.randbytes(length)
                if dice.random() < 0.5
                else (GOOD + dice.randbytes(length))[: dice.randint(1, 60)]
            )
            line.sendto(junk, ("127.0.0.1", nameserver.port))
    for opening in (b"", b"\0", b"\xff\xff" + b"x" * 100, b"\0\0", b"\0\x05abcde"):
        with socket.create_connection(("127.0.0.1", nameserver.port)) as line:
            line.sendall(opening)
    # Over TCP first: a question by UDP could be dropped behind the junk that still waits.
    assert nameserver.ask("1.web.rota.internal", tcp=True).rcode() == dns.rcode.NOERROR
    nameserver.until(lambda: nameserver.texts("1.web.rota.internal") == ["10.0.0.1"])
    assert "Traceback" not in nameserver.log
