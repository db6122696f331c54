"""How HAProxy's rows add up to what users saw."""

from __future__ import annotations

from dataclasses import replace

from rota.core.names import ReplicaId
from rota.core.observation import Counters, Gap, Row
from rota.core.receipt import BALANCER_DOWN, by_replica, receipt, totals
from rota.core.rollout import Rollout
from rota.testing.states import rollout as any_rollout


def backend(process: str, requests: int, failed: int = 0) -> Row:
    return Row(process, "web.0", "web", Counters(requests, failed=failed))


def server(process: str, replica: str, requests: int) -> Row:
    return Row(process, f"web.0/{replica}", "web", Counters(requests), ReplicaId(replica))


def ended(*rows: Row, baseline: tuple[Row, ...] = (), gaps: tuple[Gap, ...] = ()) -> Rollout:
    return replace(
        any_rollout(),
        rows={row.key: row for row in rows},
        baseline={row.key: row for row in baseline},
        releases={"web-1": 1, "web-2": 2},
        gaps=gaps,
        cut=3,
    )


def test_it_counts_from_the_baseline() -> None:
    shown = receipt(ended(backend("p", 150), baseline=(backend("p", 100),)), (), ())
    assert (shown.totals.requests, shown.cut, shown.complete) == (50, 3, True)


def test_live_rows_take_the_place_of_recorded_ones() -> None:
    assert receipt(ended(backend("p", 10)), [backend("p", 25, failed=2)], ()).totals == Counters(25, failed=2)


def test_a_reload_adds_the_new_process_to_the_old() -> None:
    rows = (backend("old", 150), backend("new", 30))
    assert receipt(ended(*rows, baseline=(backend("old", 100),)), (), ()).totals.requests == 80


def test_requests_are_told_by_release() -> None:
    rows = (server("p", "web-1", 10), server("q", "web-1", 5), server("p", "web-2", 7), server("p", "web-9", 1))
    assert receipt(ended(*rows), (), ()).by_release == {1: 15, 2: 7}


def test_a_release_that_got_nothing_is_left_out() -> None:
    assert receipt(ended(server("p", "web-2", 0)), (), ()).by_release == {}


def test_an_outage_makes_it_incomplete() -> None:
    down = Gap(1.0, 2.0, BALANCER_DOWN)
    assert not receipt(ended(gaps=(down,)), (), ()).complete
    shown = receipt(ended(), (), (down,))
    assert (shown.complete, shown.gaps) == (False, (down,))
    assert receipt(ended(gaps=(Gap(1.0, 2.0, "no replica was in service"),)), (), ()).complete


def test_servers_rows_count_for_their_replica_only() -> None:
    rows = (backend("p", 12), server("p", "web-1", 12))
    assert totals(rows, {}).requests == 12
    assert by_replica(rows, {})[ReplicaId("web-1")].requests == 12
