"""What a request costs through rota, beside what it costs through a HAProxy of one's own: .venv/bin/python
bench/balancer.py [--rounds 24] [--minutes 7]

A real ``rota serve`` with an app of three replicas; and in front of the same three processes a bare HAProxy (the same
program, its file written by hand), the same once more (what differs between the two is noise), and nginx and Caddy
where they are installed. The replicas are HAProxys that answer by themselves (``http-request return``), the lightest
there are, so that the balancer is what is measured. The balancers have one processor to themselves, with a thread
each; clients, replicas and the daemon are on another (``--no-pin`` leaves all where the kernel puts them).

A round is a closed loop over kept connections (wrk) of a second through each of the three, in an order and then
backwards, and an open loop at a fixed rate far below what they could do (open_loop.py), whose requests go to the three
at random. Rota's figures are set against those of the two bare ones in the same round, and the median of these ratios
counts, with the interval that it lies in (judging.py). CPU is what the balancer's own processes used a request. nginx
and Caddy have fewer rounds, after the others. Quote ratios only.

Limits: 0.97 of the bare ones' throughput, 1.05 of their p99. Each is held, over, or undecided: where the bare one
beside itself strays by more than the limit, the machine cannot tell."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peers
import yaml
from judging import Interval, Verdict, judged, orders
from open_loop import END

from rota.adapters.balancer.haproxy import binary
from rota.adapters.balancer.haproxy.settings import fitting_maxconn
from rota.testing.server import RunningServer, free_port

HOST = "balanced.localhost"
BARE, AGAIN, ROTA = "bare HAProxy", "bare HAProxy again", "rota"
LIMITS = {"throughput": 0.97, "p99": 1.05}
KEYS = ("throughput", "cpu_us", "p50", "p99")
_LEAST_ROUNDS = 2
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


Round = Mapping[str, Figures]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=24, help="at most; six have each order once")
    parser.add_argument("--minutes", type=float, default=6.5, help="after which no other round begins")
    parser.add_argument("--peer-rounds", type=int, default=4, help="of nginx and Caddy")
    parser.add_argument("--seconds", type=int, default=1, help="of each turn of the closed loop")
    parser.add_argument("--open-seconds", type=float, default=5.0, help="of the open loop")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--rate", type=float, default=500.0, help="requests a second to each, for the latency")
    parser.add_argument("--no-pin", action="store_true", help="leave processes on any processor")
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
    return 0 if all(limit["verdict"] == Verdict.HELD.value for limit in results["limits"].values()) else 1


async def _measure(given: argparse.Namespace, programs: Mapping[str, str]) -> dict[str, Any]:
    until = time.monotonic() + 60 * given.minutes
    processors = sorted(os.sched_getaffinity(0))
    pinned = len(processors) > 1 and not given.no_pin
    if pinned:  # whoever is started from here on has one processor, and so one thread
        os.sched_setaffinity(0, processors[1:2])
    async with _contenders(programs, 1 if pinned else len(processors)) as contenders:
        if pinned:
            for contender in contenders:
                _put(contender.pid, processors[0])
        load = _Load(programs["wrk"], given)
        judged_ones = [one for one in contenders if one.name in (BARE, AGAIN, ROTA)]
        beside = [one for one in contenders if one.name == BARE or one not in judged_ones]
        for contender in contenders:
            load.throughput(contender.port)  # connections to the replicas, caches
        rounds: list[Round] = []
        for number, order in enumerate(orders(judged_ones, given.rounds)):
            if time.monotonic() < until or len(rounds) < _LEAST_ROUNDS:
                rounds.append(load.round(order, number))
        others = [load.round(order, 0) for order in orders(beside, given.peer_rounds)] if beside[1:] else []
    return _results(rounds, others, given, pinned)


def _put(pid: int, processor: int) -> None:
    """A balancer's processes, all their threads."""
    for process in _family(pid):
        for task in Path(f"/proc/{process}/task").iterdir():
            os.sched_setaffinity(int(task.name), {processor})


@contextlib.asynccontextmanager
async def _contenders(programs: Mapping[str, str], threads: int) -> AsyncIterator[list[Contender]]:
    haproxy = binary.find().path
    async with RunningServer() as server:
        replicas = await _deploy(server, haproxy)
        behind = peers.Behind(HOST, replicas, threads, fitting_maxconn())
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


class _Load:
    def __init__(self, wrk: str, given: argparse.Namespace) -> None:
        self._wrk, self._given = wrk, given

    def round(self, order: Sequence[Contender], number: int) -> Round:
        """``order`` has each more than once: what it did in all its turns counts."""
        contenders = list(dict.fromkeys(order))
        closed: dict[str, list[tuple[float, float, int]]] = {}
        for one in order:
            closed.setdefault(one.name, []).append(self._closed(one))
        opened = dict(zip([one.name for one in contenders], self._open(contenders, number), strict=True))
        return {name: _figures(turns, opened[name]) for name, turns in closed.items()}

    def throughput(self, port: int) -> tuple[float, int, int]:
        """Requests a second, and how many there were and failed."""
        argv = [self._wrk, "-t1", f"-c{self._given.connections}", f"-d{self._given.seconds}s", *_headers("-H")]
        argv += ["-H", f"Host: {HOST}", f"http://127.0.0.1:{port}/"]
        said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
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
        rate, requests, failed = self.throughput(contender.port)
        return rate, (sum(map(_used, pids)) - before) / requests / 1000, failed

    def _open(self, contenders: Sequence[Contender], number: int) -> Sequence[Mapping[str, float]]:
        given, program = self._given, str(Path(__file__).with_name("open_loop.py"))
        argv = [sys.executable, program, HOST, *(str(one.port) for one in contenders), *_headers("--header")]
        argv += [f"--rate={given.rate}", f"--seconds={given.open_seconds}", f"--seed={number}"]
        argv += [f"--connections={given.connections // 2}"]
        found: Sequence[Mapping[str, float]] = json.loads(
            subprocess.run(argv, stdout=subprocess.PIPE, check=True).stdout
        )
        return found


def _figures(turns: Sequence[tuple[float, float, int]], opened: Mapping[str, float]) -> Figures:
    rates, cpu, failed = zip(*turns, strict=True)
    lost = sum(failed) + int(opened["lost"])
    return Figures(statistics.mean(rates), statistics.mean(cpu), opened["p50_ms"], opened["p99_ms"], lost)


def _headers(flag: str) -> list[str]:
    return [word for header in HEADERS for word in (flag, header)]


def _family(pid: int) -> list[int]:
    """A process and its children: a master and its workers."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def _used(pid: int) -> int:
    """Nanoseconds on a processor, of all its threads."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)


def _results(
    rounds: Sequence[Round], others: Sequence[Round], given: argparse.Namespace, pinned: bool
) -> dict[str, Any]:
    """The same beside itself is held against the other one alone, all else against what is between the two."""
    same = {key: Interval.of(_ratios(rounds, AGAIN, key, BARE)) for key in KEYS}
    own = {key: Interval.of(_ratios(rounds, ROTA, key, BARE, AGAIN)) for key in KEYS}
    ratios = {ROTA: own, AGAIN: same}
    for name in sorted(set(others[0]) - {BARE}) if others else []:
        ratios[name] = {key: Interval.of(_ratios(others, name, key, BARE)) for key in KEYS}
    return {
        "rounds": len(rounds),
        "rate": given.rate,
        "pinned": pinned,
        "ratios_to_bare": {name: {key: vars(interval) for key, interval in of.items()} for name, of in ratios.items()},
        "lost": {name: _lost([*rounds, *others], name) for name in (BARE, *ratios)},
        "limits": {key: _verdict(own[key], same[key], limit) for key, limit in LIMITS.items()},
    }


def _verdict(own: Interval, same: Interval, limit: float) -> dict[str, Any]:
    verdict, why = judged(own, same, limit)
    return {"limit": limit, "verdict": verdict.value, "why": why}


def _lost(rounds: Sequence[Round], name: str) -> int:
    return sum(found[name].lost for found in rounds if name in found)


def _ratios(rounds: Sequence[Round], name: str, key: str, *to: str) -> list[float]:
    """Of each round's own."""
    reference = [statistics.geometric_mean(getattr(found[one], key) for one in to) for found in rounds]
    return [getattr(found[name], key) / base for found, base in zip(rounds, reference, strict=True)]


def _report(results: Mapping[str, Any]) -> str:
    where = "balancers on a processor of their own" if results["pinned"] else "all on any processor"
    lines = [
        f"{results['rounds']} rounds, {where}; medians of the rounds' ratios to the bare HAProxy (95 % interval)",
        f"{'':20} {'throughput':>24} {'CPU a request':>24} {'p50':>24} {'p99':>24}   at {results['rate']:g}/s each",
    ]
    for name, of in results["ratios_to_bare"].items():
        lines.append(f"{name:20} " + " ".join(f"{Interval(**of[key])!s:>24}" for key in KEYS))
    lost = {name: count for name, count in results["lost"].items() if count}
    lines += [f"lost: {lost}"] if lost else []
    for key, found in results["limits"].items():
        bound = "at least" if found["limit"] < 1 else "at most"
        lines.append(f"{key} {bound} {found['limit']}: {found['verdict']}{found['why'] and ': ' + found['why']}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
