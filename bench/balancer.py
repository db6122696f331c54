"""What a request costs through rota, beside what it costs through a HAProxy of one's own: .venv/bin/python
bench/balancer.py [--rounds 8] [--seconds 3]

A real ``rota serve`` with an app of three replicas; and in front of the same three processes a bare HAProxy (the same
program, its file written by hand), the same once more (what differs between the two is noise), and nginx and Caddy
where they are installed. The replicas are HAProxys that answer by themselves (``http-request return``), the lightest
there are, so that the balancer is what is measured.

Throughput is a closed loop over kept connections (wrk), where a balancer's own cost weighs most; latency an open loop
at a fixed rate (open_loop.py). Short rounds, all in turns and each round in another order; each round's figures are set
against the bare one's of the same round, and the median of these ratios counts. CPU is what the balancer's own
processes used a request: the calmest of the three on a busy machine. Quote ratios only: all share the cores.

Limits: 0.97 of the bare one's throughput, 1.05 of its p99."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import yaml
from figures import Spread
from open_loop import END

from rota.adapters.balancer.haproxy import binary
from rota.adapters.balancer.haproxy.settings import fitting_maxconn
from rota.testing.server import RunningServer, free_port

HOST = "balanced.localhost"
BARE, AGAIN, ROTA = "bare HAProxy", "bare HAProxy again", "rota"
LIMITS = {"throughput": 0.97, "p99": 1.05}
HEADERS = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br",
    "Upgrade-Insecure-Requests: 1",
)
"""A browser's, so that a rule that looks at each header costs what it would."""

RESPONDER = f"""\
global
  maxconn 1000
  nbthread 1
defaults
  mode http
  timeout client 1h
frontend replica
  bind "127.0.0.1:${{PORT}}"
  http-request return status 200 content-type text/plain string "{"x" * 200}{END.decode().strip()}\\n"
"""


@dataclass(frozen=True)
class Contender:
    name: str
    port: int
    pid: int


@dataclass(frozen=True)
class Figures:
    """Of one contender in one round."""

    throughput: float
    cpu_us: float
    p50: float
    p99: float
    lost: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=3, help="of each measurement")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2000.0, help="requests a second, for the latency")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    programs = peers.found("wrk", "nginx", "caddy")
    for name in ("wrk", "nginx", "caddy"):
        if name not in programs:
            print(f"{name} is not installed: apt-get install --no-install-recommends {name}", file=sys.stderr)
    if "wrk" not in programs:
        return 2
    results = asyncio.run(_measure(given, programs))
    print(json.dumps(results) if given.json else _report(results))
    return 0 if results["within_limits"] else 1


async def _measure(given: argparse.Namespace, programs: Mapping[str, str]) -> dict[str, Any]:
    async with _contenders(programs) as contenders:
        load = _Load(programs["wrk"], given.seconds, given.connections, given.rate)
        for contender in contenders:
            load.throughput(contender.port, 1)  # connections to the replicas, caches
        rounds = [load.round(_rotated(contenders, number)) for number in range(given.rounds)]
    return _results(rounds, given)


@contextlib.asynccontextmanager
async def _contenders(programs: Mapping[str, str]) -> AsyncIterator[list[Contender]]:
    haproxy = binary.find().path
    async with RunningServer() as server:
        replicas = await _deploy(server, haproxy)
        behind = peers.Behind(HOST, replicas, os.cpu_count() or 1, fitting_maxconn())
        with tempfile.TemporaryDirectory(prefix="rota-") as name, contextlib.ExitStack() as stack:
            where = Path(name)
            made = [
                peers.bare_haproxy(BARE, haproxy, where / "bare", free_port(), behind),
                peers.bare_haproxy(AGAIN, haproxy, where / "again", free_port(), behind),
            ]
            if "nginx" in programs:
                made.append(peers.nginx(programs["nginx"], where / "nginx", free_port(), behind))
            if "caddy" in programs:
                made.append(peers.caddy(programs["caddy"], where / "caddy", free_port(), behind))
            started = [stack.enter_context(peer) for peer in made]
            rota = Contender(ROTA, server.http_port, int(server.child("haproxy")["pid"]))
            yield [rota, *(Contender(peer.name, peer.port, peer.pid) for peer in started)]


async def _deploy(server: RunningServer, haproxy: str) -> list[str]:
    """The app's replicas, by their addresses."""
    source = server.directory / "balanced"
    source.mkdir()
    (source / "responder.cfg").write_text(RESPONDER)
    spec = {
        "name": "balanced",
        "replicas": 3,
        "domains": [{"domain": HOST}],
        "health_check_path": "/health",
        "command": [haproxy, "-f", "responder.cfg"],
    }
    (source / "rota.yaml").write_text(yaml.safe_dump(spec))
    await server.ok("deploy", cwd=source)
    return [str(replica["address"]) for replica in await server.replicas("balanced")]


def _rotated(contenders: Sequence[Contender], number: int) -> list[Contender]:
    """Each begins in turn, and every other round goes backwards, so that none always follows the same one."""
    start = number % len(contenders)
    order = [*contenders[start:], *contenders[:start]]
    return order[::-1] if number % 2 else order


class _Load:
    def __init__(self, wrk: str, seconds: int, connections: int, rate: float) -> None:
        self._wrk, self._seconds, self._connections, self._rate = wrk, seconds, connections, rate

    def round(self, contenders: Sequence[Contender]) -> dict[str, Figures]:
        closed = {one.name: self._closed(one) for one in contenders}
        opened = {one.name: self._open(one.port) for one in contenders}
        return {
            name: Figures(rate, cpu, opened[name]["p50_ms"], opened[name]["p99_ms"], int(opened[name]["lost"]) + failed)
            for name, (rate, cpu, failed) in closed.items()
        }

    def throughput(self, port: int, seconds: int) -> tuple[float, int, int]:
        """Requests a second, and how many there were and failed."""
        argv = [self._wrk, "-t1", f"-c{self._connections}", f"-d{seconds}s", *_headers("-H"), "-H", f"Host: {HOST}"]
        said = subprocess.run([*argv, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
        rate, requests = re.search(r"Requests/sec:\s+([\d.]+)", said), re.search(r"(\d+) requests in", said)
        failed = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
        errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
        if rate is None or requests is None:
            raise RuntimeError(f"wrk said {said!r}")
        lost = (int(failed[1]) if failed else 0) + (sum(map(int, errors.groups())) if errors else 0)
        return float(rate[1]), int(requests[1]), lost

    def _closed(self, contender: Contender) -> tuple[float, float, int]:
        pids = _family(contender.pid)
        before = sum(map(_used, pids))
        rate, requests, failed = self.throughput(contender.port, self._seconds)
        return rate, (sum(map(_used, pids)) - before) / requests / 1000, failed

    def _open(self, port: int) -> Mapping[str, float]:
        argv = [sys.executable, str(Path(__file__).with_name("open_loop.py")), str(port), HOST, *_headers("--header")]
        argv += [f"--rate={self._rate}", f"--seconds={self._seconds}", f"--connections={self._connections}"]
        found: Mapping[str, float] = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout)
        return found


def _headers(flag: str) -> list[str]:
    return [word for header in HEADERS for word in (flag, header)]


def _family(pid: int) -> list[int]:
    """A process and its children: a master and its workers."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _used(pid: int) -> int:
    """Nanoseconds on a processor, of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def _results(rounds: Sequence[Mapping[str, Figures]], given: argparse.Namespace) -> dict[str, Any]:
    names = sorted(rounds[0], key=[ROTA, BARE, AGAIN].__contains__, reverse=True)
    ratios = {name: _ratios(rounds, name) for name in names if name != BARE}
    own = ratios[ROTA]
    return {
        "rounds": len(rounds),
        "rate": given.rate,
        "ratios_to_bare": {name: {key: _spread(values) for key, values in of.items()} for name, of in ratios.items()},
        "lost": {name: sum(figures[name].lost for figures in rounds) for name in names},
        "limits": LIMITS,
        "within_limits": Spread.of(own["throughput"]).median >= LIMITS["throughput"]
        and Spread.of(own["p99"]).median <= LIMITS["p99"],
    }


def _ratios(rounds: Sequence[Mapping[str, Figures]], name: str) -> dict[str, list[float]]:
    """Of each round's own two."""
    return {
        key: [getattr(figures[name], key) / getattr(figures[BARE], key) for figures in rounds]
        for key in ("throughput", "cpu_us", "p50", "p99")
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    found = Spread.of(values)
    return {"median": found.median, "least": found.least, "most": found.most}


def _report(results: Mapping[str, Any]) -> str:
    def cell(of: Mapping[str, float]) -> str:
        return f"{of['median']:6.3f} ({of['least']:.2f} to {of['most']:.2f})"

    keys = ("throughput", "cpu_us", "p50", "p99")
    lines = [
        f"medians of {results['rounds']} rounds, each against the bare HAProxy of its round (least to most)",
        f"{'':20} {'throughput':>22} {'CPU a request':>22} {'p50':>22} {'p99':>22}   at {results['rate']:g}/s",
    ]
    for name, of in results["ratios_to_bare"].items():
        lines.append(f"{name:20} " + " ".join(f"{cell(of[key]):>22}" for key in keys))
    lost = {name: count for name, count in results["lost"].items() if count}
    lines += [f"lost: {lost}"] if lost else []
    limits = f"throughput at least {LIMITS['throughput']}, p99 at most {LIMITS['p99']}"
    return "\n".join([*lines, f"rota is {'within' if results['within_limits'] else 'OVER'} the limits: {limits}"])


if __name__ == "__main__":
    sys.exit(main())
