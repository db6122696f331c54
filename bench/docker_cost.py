"""What rota costs over the bare calls on Docker: .venv/bin/python bench/docker_cost.py (as root, with dockerd)

Ratios of medians over rounds that alternate with their bare part: a sequential restart of 5 replicas against the sum of
its replicas' own times (limit 1.10), and a deploy of 50 replicas from nothing against 50 containers created and started
by bare calls, 4 at once, until all of them are ready, which is where a deploy ends (limit 1.15). The ratio to the calls
alone is printed too and held to nothing: when they have returned the programs go on booting, whoever started them.
Exits 1 when a limit is not held."""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from bare_containers import BareContainers
from figures import moment
from rollout_overhead import rolled

from rota.core.healthcheck import Check, Kind
from rota.testing.docker import HELLO, DockerEngine, docker_engine
from rota.testing.server import RunningServer

EXAMPLE = Path(__file__).parents[1] / "examples" / "hello"
RESTART_LIMIT, DEPLOY_LIMIT = 1.10, 1.15
CHECK = Check(Kind.HTTP, "/health")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replicas", type=int, default=5, help="of the restart")
    parser.add_argument("--many", type=int, default=50, help="replicas of the deploy from nothing")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    given = parser.parse_args()
    with docker_engine() as engine:
        engine.import_hello(EXAMPLE)
        results = asyncio.run(_measure(engine, given.replicas, given.many, given.rounds))
    print(json.dumps(results) if given.json else _report(results))
    return 0 if all(found["within_limit"] for found in results.values()) else 1


async def _measure(engine: DockerEngine, replicas: int, many: int, rounds: int) -> dict[str, Any]:
    async with RunningServer(None, "--runtime", "docker", "--docker-host", engine.host) as server:
        _write(server.directory, replicas)
        await server.ok("deploy", cwd=server.directory)
        async with BareContainers(engine.host, await _inspection(engine), CHECK) as bare:
            await bare.one()
            await rolled(server)
            restarts, sums, deploys, starts, ready = [], [], [], [], []
            for _ in range(rounds):
                sums.append(sum([(await bare.one()).total for _ in range(replicas)]))
                restarts.append(_seconds(await rolled(server)))
            await server.ok("remove", "hello", "--yes")
            for _ in range(rounds):
                called, all_ready = await bare.many(many)
                starts.append(called)
                ready.append(all_ready)
                _write(server.directory, many)
                answer = await server.ok("deploy", "--json", cwd=server.directory)
                deploys.append(_seconds(answer.json))
                await server.ok("remove", "hello", "--yes")
    return {
        "restart": _ratio(restarts, sums, RESTART_LIMIT) | {"replicas": replicas},
        "deploy": _ratio(deploys, ready, DEPLOY_LIMIT) | {"replicas": many, **_to_calls(deploys, starts)},
    }


def _write(directory: Path, replicas: int) -> None:
    spec = {"name": "hello", "image": HELLO, "replicas": replicas, "health_check_path": "/health"}
    (directory / "rota.yaml").write_text(yaml.safe_dump(spec))


async def _inspection(engine: DockerEngine) -> Mapping[str, Any]:
    container = (await engine.cli("ps", "-q", "--filter", "label=rota.app=hello")).split()[0]
    found: Mapping[str, Any] = json.loads(await engine.cli("inspect", container))[0]
    return found


def _seconds(rollout: Mapping[str, Any]) -> float:
    return moment(rollout["finished_at"]) - moment(rollout["started_at"])


def _ratio(rota: list[float], bare: list[float], limit: float) -> dict[str, Any]:
    ratio = statistics.median(rota) / statistics.median(bare)
    return {"rota_s": rota, "bare_s": bare, "ratio": ratio, "limit": limit, "within_limit": ratio <= limit}


def _to_calls(rota: list[float], calls: list[float]) -> dict[str, Any]:
    return {"calls_s": calls, "ratio_to_calls": statistics.median(rota) / statistics.median(calls)}


def _report(results: Mapping[str, Any]) -> str:
    lines = []
    for name, bare in (("restart", "own times"), ("deploy", "bare ready")):
        found = results[name]
        rows = [("rota", found["rota_s"]), (bare, found["bare_s"])]
        rows += [("the calls", found["calls_s"])] if "calls_s" in found else []
        for label, values in rows:
            shown = "  ".join(f"{value:.2f}" for value in values)
            lines.append(
                f"{name} of {found['replicas']}, {label:10}  median {statistics.median(values):6.2f} s   ({shown})"
            )
        verdict = "within" if found["within_limit"] else "OVER"
        lines.append(f"  ratio to {bare} {found['ratio']:.3f}   {verdict} {found['limit']:g}")
        if "ratio_to_calls" in found:
            lines.append(f"  ratio to the calls {found['ratio_to_calls']:.3f}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
