"""Why a replica failed, in words that name what may help."""

from __future__ import annotations

import pytest
from tests.core.scenario import deployed, empty, options, settled

from rota.core import order as o
from rota.core import steps as s
from rota.core.explanation import advice, exit_in_words, too_slow, with_advice
from rota.core.observation import Exit
from rota.core.rollout import Cause, Phase
from rota.core.spec import Limits
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import spec_of

MEMORY = Limits(memory=64 * 2**20)


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (None, "it disappeared: nothing of it is left"),
        (Exit(0.0), "it ended while nobody watched; its exit code is not known"),
        (Exit(0.0, code=0), "it exited with code 0"),
        (Exit(0.0, code=3), "it exited with code 3"),
        (Exit(0.0, code=126), "it exited with code 126: its command was found and cannot be executed"),
        (Exit(0.0, code=127), "it exited with code 127: a command was not found"),
        (Exit(0.0, code=137), "it exited with code 137: a shell's word for signal 9 (SIGKILL)"),
        (Exit(0.0, code=255), "it exited with code 255"),
        (Exit(0.0, signal=11), "it was ended by signal 11 (SIGSEGV)"),
        (Exit(0.0, signal=40), "it was ended by signal 40"),
        (
            Exit(0.0, signal=9, oom=True),
            "it was ended by the kernel: out of memory (its limit is 64 MiB);"
            " raise resources.memory or make it use less",
        ),
    ],
)
def test_an_exit_is_said_in_words(ended: Exit | None, words: str) -> None:
    assert exit_in_words(ended, MEMORY) == words
    assert exit_in_words(ended, MEMORY, stopped=True) == f"somebody stopped it, not rota; {words}"


MISSING = "the variable DATABASE_URL is missing: give it under env:"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("KeyError: 'DATABASE_URL'", MISSING),
        ('key not found: "DATABASE_URL" (KeyError)', MISSING),
        ("start.sh: line 3: DATABASE_URL: unbound variable", MISSING),
        ("sh: 1: DATABASE_URL: parameter not set", MISSING),
        ("hello: the environment variable DATABASE_URL is missing", MISSING),
        ("Error: DATABASE_URL is not set", MISSING),
        ("DATABASE_URL must be set", MISSING),
        ("DATABASE_URL environment variable not set", MISSING),
        ("Missing required environment variable: DATABASE_URL", MISSING),
        ("undefined env var 'DATABASE_URL'", MISSING),
        (
            'psycopg.OperationalError: connection to server at "10.0.0.5", port 5432 failed: Connection refused',
            "a connection was refused (PostgreSQL at 10.0.0.5 port 5432): is it running, and reachable from here?",
        ),
        (
            "Error: connect ECONNREFUSED 127.0.0.1:6379",
            "a connection was refused (Redis at 127.0.0.1 port 6379): is it running, and reachable from here?",
        ),
        (
            "dial tcp [::1]:4000: connect: connection refused",
            "a connection was refused ([::1] port 4000): is it running, and reachable from here?",
        ),
        (
            "ConnectionRefusedError: [Errno 111] Connection refused",
            "a connection was refused: is what it depends on running, and reachable from here?",
        ),
        (
            "OSError: [Errno 98] Address already in use",
            "its port is in use: listen on $PORT, which differs from replica to replica",
        ),
        (
            "ModuleNotFoundError: No module named 'flask'",
            "the module flask is missing: install it in build_command, and see that it is sent",
        ),
        ("MemoryError", "it ran out of memory: raise resources.memory or make it use less"),
    ],
)
def test_the_last_lines_tell_what_may_help(line: str, told: str) -> None:
    assert advice(["starting", line, "exiting"]) == f"its log says that {told}"
    assert with_advice("it exited with code 1", [line]) == f"it exited with code 1; its log says that {told}"


@pytest.mark.parametrize("line", ["KeyError: 'id'", "GET /x 200", "I AM ready", "listens on port 8000", "OK"])
def test_lines_that_tell_nothing_are_left_alone(line: str) -> None:
    assert advice([line]) == ""
    assert with_advice("it exited with code 1", [line]) == "it exited with code 1"


@pytest.mark.parametrize(
    ("took", "allowed", "said"),
    [
        (64.0, 60.0, "4 s too slow: set boot_timeout to 70 s"),
        (1.3, 1.0, "0.3 s too slow: set boot_timeout to 2 s"),
        (14.0, 10.0, "4 s too slow: set boot_timeout to 15 s"),
        (2.01, 2.0, "0.1 s too slow: set boot_timeout to 3 s"),
    ],
)
def test_a_value_that_fits_is_named(took: float, allowed: float, said: str) -> None:
    assert too_slow(took, allowed, "boot_timeout") == said


def slow(app: Simulation, **faults: float) -> None:
    app.runtime.faults = lambda order: Faults(**faults) if order.release > 1 else Faults()  # type: ignore[arg-type]
    app.order(o.Deploy(spec=spec_of(replicas=3, build_command=["make"]), policy=options(order="start-first")))
    app.run(120.0)


def test_a_replica_that_comes_up_too_late_says_how_late() -> None:
    app = deployed()
    slow(app, listens_after=5.0)
    assert (app.rollout.phase, app.rollout.cause) == (Phase.ROLLED_BACK, Cause.TIMEOUT)
    (failure,) = app.rollout.failures
    assert failure.detail.endswith("it came up 1 s too slow: set boot_timeout to 6 s")
    assert failure.detail in app.rollout.detail
    settled(app)


def test_one_whose_check_passes_too_late_says_so_too() -> None:
    app = deployed()
    slow(app, listens_after=0.0, healthy_after=5.0)
    assert app.rollout.cause is Cause.UNHEALTHY
    assert app.rollout.failures[0].detail.endswith("it came up 1 s too slow: set health_check.start_period to 2 s")
    settled(app)


@pytest.mark.parametrize("faults", [{"listens_after": 60.0}, {"listens_after": 0.0, "healthy_after": 60.0}])
def test_one_that_does_not_come_up_is_not_waited_for_long(faults: dict[str, float]) -> None:
    app = deployed()
    slow(app, **faults)
    (failed,) = [done.at for done in app.steps if isinstance(done.step, s.FailReplica)]
    (stopped,) = [done.at for done in app.steps if isinstance(done.step, s.StopReplica)]
    assert stopped - failed == pytest.approx(2.0, abs=0.1)


def test_a_first_deploy_that_is_late_says_so() -> None:
    app = empty()
    app.runtime.faults = lambda order: Faults(listens_after=5.0)
    app.order(o.Deploy(spec=spec_of(replicas=1)))
    app.run(60.0)
    assert app.rollout.phase is Phase.FAILED
    assert "too slow: set boot_timeout to 6 s" in app.rollout.detail


def test_stop_first_does_not_wait_to_see_how_late_it_was() -> None:
    app = deployed()
    app.runtime.faults = lambda order: Faults(listens_after=5.0) if order.release > 1 else Faults()
    app.order(o.Deploy(spec=spec_of(replicas=3, build_command=["make"]), policy=options(order="stop-first")))
    app.run(60.0)
    assert "too slow" not in app.rollout.detail
    settled(app)


def test_a_repair_that_is_late_says_so_in_its_failure() -> None:
    app = deployed(replicas=2, restart={"attempts": 3, "delay": 5.0, "max_delay": 5.0})
    app.runtime.faults = lambda order: Faults(listens_after=5.0)
    app.runtime.crash("web-1")  # type: ignore[arg-type]
    app.run(7.0)
    assert app.state is not None
    details = [record.failure.detail for record in app.state.recorded.replicas.values() if record.failure]
    assert any(detail.endswith("1 s too slow: set boot_timeout to 6 s") for detail in details)
