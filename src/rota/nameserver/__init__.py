"""The internal name server (``rota nameserver``): a child of the keeper that outlives the daemon and goes on
answering from the last table on disk. Standard library and dnspython only; it imports nothing of rota but itself.

It is authoritative for ``rota.internal``:

    APP.rota.internal                A, AAAA: the replicas in rotation, their order rotated; TXT: their releases
    SLOT.APP, REPLICA.APP            A, AAAA, TXT of that one
    _http._tcp.APP                   SRV: each replica's own name and port

Every other name is asked of the host's resolvers, for clients in the allowed networks only; others are REFUSED.

Control: a Unix socket; ``load`` and a newline have the table read again and are answered by one line of JSON,
``{"version": N, "listening": true}`` or ``{"error": "…"}``. SIGHUP has it read again too. SIGTERM ends it.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from .allowance import Allowance, Network, parse_networks
from .answers import Answers
from .control import Control
from .forwarding import Forwarder
from .server import Front, listen

LOOPBACK = ("127.0.0.0/8", "::1/128")


def main(argv: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; returns 0, or 1 after one line that says why it cannot."""
    parser = argparse.ArgumentParser(prog="rota nameserver", description="Answer for rota.internal from a table.")
    listen_help = "e.g. 127.0.0.1:5353 or [::1]:5353; may be given again"
    parser.add_argument("--listen", action="append", required=True, help=listen_help)
    parser.add_argument("--release", help="of which rota it is: another has one of its own start")
    parser.add_argument("--table", required=True, type=Path)
    parser.add_argument("--control", required=True, type=Path, help="the Unix socket that the daemon speaks to")
    parser.add_argument("--allow", action="append", default=[], help="a network that may ask for other names too")
    parser.add_argument("--resolv-conf", type=Path, default=Path("/etc/resolv.conf"))
    given = parser.parse_args(list(argv))
    os.umask(0o077)
    try:
        networks = parse_networks([*LOOPBACK, *given.allow])
        addresses = [_address(text) for text in given.listen]
        asyncio.run(_serve(addresses, given.table, given.control, networks, given.resolv_conf))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"rota nameserver: {error}\n")
        return 1
    return 0


async def _serve(
    addresses: Sequence[tuple[str, int]], table: Path, control: Path, networks: Sequence[Network], resolv_conf: Path
) -> None:
    """The control socket first: whoever finds it closed may rely on the table being read later than that."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    answers = Answers()
    steering = Control(control, table, answers)
    loop.add_signal_handler(signal.SIGHUP, steering.load)
    async with steering:
        front = Front(answers, Forwarder(resolv_conf, addresses), Allowance(networks))
        async with AsyncExitStack() as listening:
            for address in addresses:
                await listening.enter_async_context(listen(address, front))
            steering.listening = True
            await ended.wait()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    ipaddress.ip_address(host)
    if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65535):
        raise ValueError(f"--listen {text}: write it as 127.0.0.1:5353")
    return host, int(port)
