"""What an app's events say of how long its replicas take."""

from __future__ import annotations

from typing import Any

import pytest

from rota.core.durations import Durations, Length, open_now
from rota.core.events import Event, EventKind
from rota.core.measured import NEWEST, Measured, measured
from rota.core.names import ReplicaId
from rota.core.observation import ObservedBalancer, ObservedServer, Reloads, ServerState
from rota.core.state import Release
from rota.testing.simulation_history import spec_of


def releases(**fields: object) -> dict[int, Release]:
    return {1: Release(1, spec_of(**fields), None, 0.0, "web.1")}


def events(*steps: tuple[float, str, str | None], rollout: str = "web.2") -> list[Event]:
    return [Event(at, "web", EventKind.STEP, rollout, step, replica) for at, step, replica in steps]


def life(number: int, at: float, *, boot: float = 2.0, drain: float = 0.0, stop: float = 1.0) -> list[Event]:
    """One replica from its start to its end, each call taking 0.25 s, with two health checks 0.1 s apart."""
    name = f"web-{number}"
    gone = at + boot + 0.1 + 10.0
    left = events(
        (gone, "DisableServer", name),
        (gone + 0.25 + drain, "StopReplica", name),
        (gone + 0.25 + drain + stop, "RemoveServer", name),
        (gone + 0.5 + drain + stop, "RemoveReplica", name),
        rollout="web.3",
    )
    return [*events((at, "StartReplica", name), (at + boot + 0.1, "EnableServer", name)), *left]


def in_rotation(at: float, *, rollout: str | None = "web.2") -> list[Event]:
    """Of a rollout that finds something to do 0.25 s later."""
    enabled = Event(at, "web", EventKind.STEP, rollout, "EnableServer", "web-9")
    return [enabled, Event(at + 0.25, "web", EventKind.STEP, rollout, "FinishSlot")]


def known_of(events: list[Event], releases: dict[int, Release]) -> Durations:
    return measured(events, releases).durations(Reloads(), Durations())


def first_deploy(*, told: bool) -> list[Event]:
    """Its replicas are up after two seconds, and wait for a reload of HAProxy that takes nine."""
    begun = events((1.0, "PrepareRelease", None), (1.0, "PrepareBackend", None), rollout="web.1")
    start = events((1.5, "StartReplica", "web-1"), (10.0, "TakeSlot", None), rollout="web.1")
    healthy_for = 10.25 - 3.5 if told else None
    enabled = Event(10.25, "web", EventKind.STEP, "web.1", "EnableServer", "web-1", healthy_for=healthy_for)
    return [*begun, *start, enabled]


def test_nothing_known_is_all_guesses() -> None:
    known = known_of([], {})
    assert known == Durations()
    assert known.boot_of(7).of == 0


def test_boot_drain_and_stop_are_medians() -> None:
    lives = [life(n, 100.0 * n, boot=boot, drain=3.0) for n, boot in enumerate([1.0, 2.0, 9.0])]
    known = known_of([event for one in lives for event in [*one, *in_rotation(one[-1].at + 9.0)]], releases())
    assert (known.boot_of(1).seconds, known.boot_of(1).of) == (pytest.approx(2.0), 3)
    assert (known.drain.seconds, known.drain.of) == (pytest.approx(3.0), 3)
    assert (known.stop_of(1).seconds, known.stop_of(1).of) == (pytest.approx(1.0), 3)
    assert known.call.seconds == pytest.approx(0.25)


def test_a_server_is_in_rotation_when_its_rollout_goes_on() -> None:
    """A repair's next step may come an hour later, and a slow start is no call."""
    repaired = [*in_rotation(1.0, rollout=None), *in_rotation(3600.0, rollout=None)]
    slow = events((5000.0, "EnableServer", "web-7"), (5001.0, "SetWeight", "web-7"), rollout="web.3")
    slow += events((5009.0, "DisableServer", "web-1"), rollout="web.3")
    assert known_of([*repaired, *slow], releases()).enable == Durations().enable
    assert known_of([*in_rotation(1.0), *slow], releases()).enable.seconds == pytest.approx(0.25)


def test_only_the_newest_count() -> None:
    lives = [life(n, 100.0 * n, boot=1.0 if n < NEWEST else 5.0) for n in range(2 * NEWEST)]
    assert known_of([event for one in lives for event in one], releases()).boot_of(1).seconds == pytest.approx(5.0)


def test_boots_are_told_apart_by_how_many_there_were_at_once() -> None:
    beside = [(100.0, "StartReplica", "web-1"), (100.0, "StartReplica", "web-2"), (101.0, "StartReplica", "web-3")]
    ready = [(103.1, "EnableServer", "web-1"), (104.1, "EnableServer", "web-2"), (104.1, "EnableServer", "web-3")]
    known = known_of([*events(*beside, *ready), *life(4, 200.0, boot=1.5)], releases())
    assert {number: length.of for number, length in known.boot.items()} == {3: 3, 1: 1}
    assert known.boot_of(1).seconds == pytest.approx(1.5)
    assert (known.boot_of(3).first, known.boot_of(3).seconds) == (pytest.approx(3.0), pytest.approx(4.0))
    assert known.boot_of(9) == known.boot_of(3)


@pytest.mark.feature("J7")
def test_a_boot_of_several_less_its_wait_for_a_core_is_one_alone_until_one_was_seen() -> None:
    started = [(100.0, "StartReplica", f"web-{number}") for number in (1, 2, 3)]
    ready = [(3.0, 1.5), (3.25, 2.0), (4.0, None)]
    enabled = [
        Event(100.1 + boot, "web", EventKind.STEP, "web.2", "EnableServer", f"web-{number}", waited=waited)
        for number, (boot, waited) in enumerate(ready, 1)
    ]
    together = [*events(*started), *enabled]
    known = known_of(together, releases())
    assert (known.boot_of(1).seconds, known.boot_of(1).of) == (pytest.approx(1.25), 1)
    assert known.boot_of(3).seconds == pytest.approx(4.0)
    assert known_of([*together, *life(4, 200.0, boot=2.5)], releases()).boot_of(1).seconds == pytest.approx(2.5)


@pytest.mark.feature("J7")
@pytest.mark.parametrize(
    ("runs_after", "alone"),
    [
        ((1.0, 1.5, 1.5), 0.5 + 0.75),  # what the runtime computed for three on two cores, and the least boot
        ((0.0, 0.0, 0.0), 1.75),
        ((-5.0, -5.0, -5.0), 1.75),  # by a clock that is ahead
        ((99.0, 99.0, 99.0), 4.0 / 3),  # by one that is behind
    ],
)
def test_what_the_runtime_computes_for_several_starts_is_shared_too(
    runs_after: tuple[float, float, float], alone: float
) -> None:
    ready = [(3.0, 1.25), (3.25, 1.0), (4.0, 1.0)]
    enabled = [
        Event(
            100.1 + boot,
            "web",
            EventKind.STEP,
            "web.2",
            "EnableServer",
            f"web-{number}",
            waited=waited,
            running_for=boot + 0.1 - after,
        )
        for number, ((boot, waited), after) in enumerate(zip(ready, runs_after, strict=True), 1)
    ]
    started = events(*((100.0, "StartReplica", f"web-{number}") for number in (1, 2, 3)))
    known = measured([*started, *enabled], releases(), cores=2.0).durations(Reloads(), Durations())
    assert known.boot_of(1).seconds == pytest.approx(alone)


@pytest.mark.parametrize(
    ("cpu", "together", "seconds"),
    [
        (0.0, 1, 3.0),  # it waits for something: as long alone as with others
        (1.0, 1, 2.0),  # of its three seconds it computed for one, and another had the core for one
        (1.0, 6, 4.0),
        (9.0, 1, 1.5),  # all that it did was to compute, and it has done more since
        (9.0, 2, 1.5),  # each has a core of its own
        (9.0, 4, 3.0),
    ],
)
def test_boots_of_so_many_at_once_as_were_never_seen_share_the_cores(cpu: float, together: int, seconds: float) -> None:
    known = Durations(boot={4: Length(seconds=3.0, of=4)}, boot_cpu=cpu, cores=2.0).boot_of(together)
    assert known == Length(seconds=seconds, of=4)


def test_a_boot_in_a_first_deploy_is_told_from_the_wait_for_a_reload() -> None:
    known = known_of(first_deploy(told=True), releases())
    assert (known.boot_of(1).seconds, known.prepare.seconds) == (2.0, 0.5)
    assert known_of(first_deploy(told=False), releases()).boot_of(1).seconds == pytest.approx(8.65)
    warmed = known_of(first_deploy(told=True), releases(warm_up={"requests": 9}))
    assert warmed.boot_of(1).seconds == pytest.approx(8.65)


def test_of_two_as_near_the_longer_boot_is_taken() -> None:
    known = Durations(boot={1: Length(seconds=1.0), 3: Length(seconds=5.0)})
    assert known.boot_of(2).seconds == 5.0


def test_stops_too() -> None:
    stopped = [(100.0, "StopReplica", "web-1"), (100.01, "StopReplica", "web-2"), (200.0, "StopReplica", "web-3")]
    gone = [(103.0, "RemoveServer", "web-1"), (104.0, "RemoveServer", "web-2"), (201.0, "RemoveServer", "web-3")]
    known = known_of(events(*sorted(stopped + gone)), releases())
    assert {number: length.of for number, length in known.stop.items()} == {1: 1, 2: 2}
    assert (known.stop_of(1).seconds, known.stop_of(9).seconds) == (pytest.approx(1.0), pytest.approx(3.99))


def test_a_wave_takes_what_its_last_one_does_and_the_others_end_before_it() -> None:
    rounds = [
        events(*((at, "StartReplica", f"web-{at + n}") for n in range(3)))
        + events(*((at + 2.1 + n, "EnableServer", f"web-{at + n}") for n in range(3)))
        for at in (100, 200, 300, 400, 500)
    ]
    known = known_of([event for wave in rounds for event in wave], releases())
    assert (known.boot_of(3).of, known.boot_of(3).seconds) == (NEWEST, pytest.approx(4.0))
    assert [known.boot_of(3).one(place, 3).seconds for place in range(3)] == pytest.approx([2.0, 3.0, 4.0])
    assert known.boot_of(3).one(0, 1).seconds == pytest.approx(3.0)


def test_a_boot_alone_is_reckoned_from_the_first_of_those_at_once() -> None:
    """The last had to wait for the others to be begun."""
    at_once = Durations(boot={3: Length(seconds=4.0, first=2.0, of=3)}, boot_cpu=1.0, cores=2.0)
    assert at_once.boot_of(1) == Length(seconds=1.5, of=3)
    assert at_once.boot_of(5) == Length(seconds=5.0, first=3.0, of=3)


def test_calls_on_haproxy_at_one_moment_share_what_they_take() -> None:
    """It is told one thing after the other, and the next step waits for all of them. The look at the runtime, after a
    removal, is one for all."""
    three = ("web-1", "web-2", "web-3")
    gone = [(10.0, "RemoveServer", name) for name in three] + [(10.7, "RemoveReplica", name) for name in three]
    up = [(20.0, "EnableServer", name) for name in three] + [(20.6, "RouteApp", None)]
    left = [(30.0, "DisableServer", name) for name in three] + [(31.6, "StopReplica", name) for name in three]
    known = known_of(events(*gone, *up, *left), releases())
    assert (known.call.seconds, known.call.of) == (pytest.approx(0.3), 3)
    assert known.enable.seconds == pytest.approx(0.2)
    assert known.drain.seconds == pytest.approx(1.0)


def test_a_removal_counts_where_the_end_of_its_rollout_waited_for_it() -> None:
    beside_a_start = events(
        (10.0, "RemoveReplica", "web-1"), (10.4, "EnableServer", "web-4"), (11.0, "FinishRollout", None)
    )
    last = events((20.0, "RemoveReplica", "web-2"), (20.1, "RemoveReplica", "web-3"), (20.12, "FinishRollout", None))
    assert known_of(beside_a_start, releases()).remove == Durations().remove
    known = known_of([*beside_a_start, *last], releases()).remove
    assert (known.seconds, known.of) == (pytest.approx(0.02), 1)


def test_before_any_drain_was_seen_what_is_open_goes_on_for_as_long_as_answers_take() -> None:
    def server(name: str, **seen: Any) -> ObservedServer:
        return ObservedServer(ReplicaId(name), "web.1", ServerState.READY, up=True, **seen)

    servers = [server("web-1", open=1, latency=1.5), server("web-2", open=2, latency=0.5), server("web-3", latency=9.0)]
    seen = ObservedBalancer("1", {one.replica: one for one in servers})
    assert open_now(seen) == Length(seconds=1.5)
    assert open_now(ObservedBalancer()) == Length(seconds=0.0)


def test_those_of_one_moment_count_as_begun_at_once() -> None:
    begun = [(100.0, "StartReplica", "web-1"), (100.1, "StartReplica", "web-2"), (100.2, "StartReplica", "web-3")]
    ready = [(102.1, "EnableServer", name) for name in ("web-1", "web-2", "web-3")]
    assert known_of(events(*begun, *ready), releases()).boot.keys() == {3}


def test_a_boot_beside_a_reload_counts_only_where_there_is_no_other() -> None:
    later = life(2, 100.0, boot=3.0)
    assert known_of([*first_deploy(told=True), *later], releases()).boot_of(1) == known_of(later, releases()).boot_of(1)


def test_the_time_that_the_file_asks_for_is_no_boot() -> None:
    known = known_of(life(1, 100.0, boot=31.9), releases(min_ready_seconds=30))
    assert known.boot_of(1).seconds == pytest.approx(2.0)


def test_each_arrival_is_held_against_the_file_of_its_time() -> None:
    later = {**releases(min_ready_seconds=30), 2: Release(2, spec_of(), None, 0.0, "web.3")}
    assert known_of(life(1, 100.0, boot=31.9), later).boot_of(1).seconds == pytest.approx(2.0)
    unknown = {2: Release(2, spec_of(), None, 0.0, "web.3")}
    assert known_of(life(1, 100.0, boot=31.9), unknown).boot_of(1).seconds == pytest.approx(32.0)


def test_a_start_that_failed_tells_nothing() -> None:
    failed = events((1.0, "StartReplica", "web-1"), (60.0, "FailReplica", "web-1"))
    again = events((100.0, "RestartReplica", "web-1"), (102.1, "EnableServer", "web-1"))
    known = known_of([*failed, *again], releases())
    assert (known.boot_of(1).seconds, known.boot_of(1).of) == (pytest.approx(2.0), 1)


def test_a_refused_step_tells_nothing() -> None:
    refused = Event(101.0, "web", EventKind.STEP_FAILED, "web.2", "StopReplica", "web-1")
    assert known_of([refused, *events((109.0, "RemoveServer", "web-1"))], releases()).stop_of(1).of == 0


def test_a_release_is_made_ready_beside_a_reload_only_where_nothing_better_is_known() -> None:
    first = events(
        (1.0, "PrepareRelease", None), (1.0, "PrepareBackend", None), (9.0, "TakeSlot", None), rollout="web.1"
    )
    assert known_of(first, releases()).prepare.seconds == 8.0
    second = events((20.0, "PrepareRelease", None), (22.0, "TakeSlot", None))
    assert known_of([*first, *second], releases()).prepare.seconds == 2.0


def test_a_reload_takes_what_the_balancer_says() -> None:
    assert Measured().durations(Reloads(), Durations()).reload == Durations().reload
    seen = Reloads(not_before=1e9, apart=10.0, seconds=0.08, of=3)
    assert Measured().durations(seen, Durations()).reload == Length(seconds=0.08, of=3)


def test_what_an_app_has_not_shown_is_guessed_by_the_server_s_other_apps() -> None:
    """Not how long its users' requests take; and a guess condemns nobody (core.world)."""
    others = measured(life(1, 100.0, boot=4.0, drain=9.0, stop=3.0), releases())
    others += measured(life(1, 100.0, boot=6.0, drain=9.0, stop=5.0), releases())
    guess = others.as_guess()
    assert (guess.boot_of(1).seconds, guess.boot_of(1).of) == (pytest.approx(5.0), 0)
    assert (guess.stop_of(1).seconds, guess.drain) == (pytest.approx(4.0), Durations().drain)
    own = measured(events((1.0, "StartReplica", "web-1"), (3.1, "EnableServer", "web-1")), releases())
    known = own.durations(Reloads(), guess)
    assert (known.boot_of(1).seconds, known.boot_of(1).of) == (pytest.approx(2.0), 1)
    assert known.stop == guess.stop
    assert Measured().as_guess() == Durations()
