"""What rota doctor says of an app: what is wrong, why, and nothing when nothing is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.core.scenario import deployed, empty, options, running

from rota.core import order as o
from rota.core.diagnosis import Finding, Level, of_app, of_connections, of_dns, of_letters, of_strangers
from rota.core.names import ReplicaId
from rota.core.notice import Letter, Notice, Topic
from rota.core.observation import Connections, Counters, Open, Stranger
from rota.core.spec import Drain
from rota.testing.dns import FakeDns
from rota.testing.runtime import Faults
from rota.testing.simulation import Simulation
from rota.testing.simulation_history import MOODS, spec_of


def said(app: Simulation) -> list[str]:
    return [f"{found.level.value} {found.about}: {found.said}" for found in of_app(app.here())]


def test_an_app_that_is_well_is_one_line() -> None:
    app = deployed()
    assert said(app) == ["ok web: 3 of 3 serve"]
    app.order(o.Stop(remove=True))
    app.run(30.0)
    assert said(app) == ["ok web: it is stopped"]


def test_a_crash_loop_has_its_reason_and_its_next_try() -> None:
    app = deployed(replicas=2, restart={"attempts": 3, "delay": 10.0, "max_delay": 10.0})
    app.runtime.faults = lambda order: MOODS["deaf"]
    app.runtime.crash(ReplicaId("web-1"))
    app.run(7.0)
    found = said(app)
    assert found[0] == "warning web: 1 of 2 replicas serve"
    assert found[1].startswith("warning web: slot 1: 1 tries brought no lasting replica; the next is in ")
    assert any("timeout-error: no TCP connection was accepted within boot_timeout" in line for line in found)


def test_a_release_that_would_not_be_accepted_any_more_is_named_with_the_rule() -> None:
    app = deployed(replicas=1)
    release = app.state.releases[1]
    spec = release.spec.model_copy(update={"drain": Drain().model_copy(update={"timeout": 4000.0})})
    app.state = replace(app.state, releases={1: replace(release, spec=spec)})
    assert said(app) == [
        "warning web: release 1 runs as it was accepted, but drain.timeout: 0 to 3600 seconds are allowed, not 4000: "
        "an old HAProxy process is not kept for longer; the next file has to keep this rule"
    ]


def test_a_rule_that_an_address_breaks_is_named_without_its_secret() -> None:
    app = deployed(replicas=1)
    release = app.state.releases[1]
    spec = release.spec.model_copy(update={"notify": ("json://host.example/ secret-token",)})
    app.state = replace(app.state, releases={1: replace(release, spec=spec)})
    (found,) = said(app)
    assert "notify" in found
    assert "secret-token" not in found


def test_the_last_line_of_a_failed_replica_is_shown() -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: MOODS["deaf"]
    app.runtime.write(ReplicaId("web-1"), "KeyError: 'DATABASE_URL'")
    app.runtime.crash(ReplicaId("web-1"))
    app.run(1.0)
    (line,) = [line for line in said(app) if "web-1:" in line]
    assert "the variable DATABASE_URL is missing" in line
    assert line.endswith("; its last line: KeyError: 'DATABASE_URL'")


def test_one_that_is_on_its_way_says_what_it_waits_for() -> None:
    app = deployed(replicas=1)
    app.runtime.faults = lambda order: Faults(listens_after=3.0)
    app.order(o.Restart())
    app.run(1.0)
    assert "warning web-2: is starting; last: connection refused" in said(app)


def test_unhealthy_ones_and_unenforced_limits_are_named() -> None:
    app = deployed(replicas=2, resources={"memory": "64MiB"})
    app.runtime.enforces_limits = False
    app.order(o.Redeploy())
    app.run(60.0)
    sick = ReplicaId(running(app)[0])
    app.unhealthy[sick] = (app.now, app.now + 1e6)
    app.run(5.0)
    found = said(app)
    assert any(line.startswith(f"warning {sick}: unhealthy for 5.0 s") for line in found)
    assert sum("its limits are not enforced" in line for line in found) == 2


def test_what_was_done_by_hand_is_named() -> None:
    app = deployed(replicas=1)
    app.runtime.alter_by_hand(ReplicaId("web-1"), "container web-1.0 is paused by hand")
    assert said(app) == ["warning web-1: container web-1.0 is paused by hand"]


def test_strangers_are_named_with_the_app_that_they_name() -> None:
    strangers = (Stranger("web", "container copy …"), Stranger("", "container half …"))
    assert [(one.about, one.said) for one in of_strangers(strangers, "web")] == [("web", "container copy …")]
    assert [one.about for one in of_strangers(strangers, None)] == ["web", "runtime"]


def test_haproxy_that_does_not_answer_is_the_problem() -> None:
    app = deployed()
    app.lose_balancer()
    assert said(app)[0] == "problem web: HAProxy does not answer: nobody knows who serves"


def test_an_app_that_nobody_serves_is_a_problem() -> None:
    app = deployed()
    app.unhealthy |= dict.fromkeys(map(ReplicaId, running(app)), (app.now, app.now + 1e6))
    app.run(1.0)
    assert said(app)[0] == "problem web: 0 of 3 replicas serve"


def test_a_paused_rollout_names_the_ways_on() -> None:
    app = deployed()
    app.order(o.Deploy(spec=spec_of("deaf", replicas=3), policy=options(failure_action="pause")))
    app.run(30.0)
    (line,) = [line for line in said(app) if "paused" in line]
    assert line.startswith("warning web: web.2 deploy paused: timeout-error: web-4: no TCP connection")
    assert line.endswith("; go on with rota rollout resume web.2, or abort")


def test_uneven_load_is_named_by_rate_and_only_when_it_says_something() -> None:
    app = deployed()
    app.balancer.count(ReplicaId("web-1"), Counters(requests=90))
    assert said(app) == ["ok web: 3 of 3 serve"], "too few to say anything"
    app.balancer.count(ReplicaId("web-1"), Counters(requests=900))
    (line,) = said(app)
    assert line.startswith("warning web: uneven load: web-1 answers ")
    for name in ("web-2", "web-3"):
        app.balancer.count(ReplicaId(name), Counters(requests=900))
    assert said(app) == ["ok web: 3 of 3 serve"]
    app.balancer.count(ReplicaId("web-1"), Counters(requests=90000))
    app.lose_balancer()
    app.run(1.0)
    app.restore_balancer()
    app.run(1.0)
    assert said(app) == ["ok web: 3 of 3 serve"], "a HAProxy that has just come counts from nothing"


def test_notices_that_were_not_sent_are_counted_by_address() -> None:
    notice = Notice(1.0, "web", Topic.ROLLED_BACK, "web: x", "")
    letters = [Letter(notice, "json://a.example/token", failure="refused")] * 2
    letters += [Letter(notice, "slack://token", failure="403")]
    assert of_letters(letters) == (
        Finding(Level.PROBLEM, "notices", "2 could not be sent to json://a.example…: refused"),
        Finding(Level.PROBLEM, "notices", "1 could not be sent to slack://…: 403"),
    )


def test_old_processes_of_haproxy_are_named_and_what_ended_with_them() -> None:
    assert Open(requests=1, tcp=2) + Open(answers=3, websockets=4) == Open(1, 3, 4, 2)
    assert of_connections(Connections()) == ()
    (few,) = of_connections(Connections(old_processes=1))
    assert few.level is Level.OK
    many, ended = of_connections(Connections(old_processes=5, let_go={"chat": 7}))
    assert (many.level, ended.level, ended.about) == (Level.WARNING, Level.WARNING, "chat")
    assert "5 from before the last reload" in many.said
    assert "7 long connections were ended" in ended.said


def named_in(view: FakeDns) -> Simulation:
    app = empty()
    app.dns["example.org"] = view
    app.order(o.Deploy(spec=spec_of(replicas=2, domains=[{"domain": "www.example.org"}])))
    app.run(60.0)
    return app


def test_a_view_of_dns_that_does_not_answer_is_a_problem() -> None:
    view = FakeDns("example.org")
    app = named_in(view)
    assert said(app) == ["ok web: 2 of 2 serve"]
    view.lose("the update server does not answer")
    assert said(app) == [
        "problem web: DNS, example.org: the update server does not answer; it says what it said before"
    ]


def test_updates_that_are_refused_show_after_a_moment() -> None:
    view = FakeDns("example.org")
    app = named_in(view)
    view.fail("publish", 1000)
    app.runtime.crash(ReplicaId("web-1"))
    app.run(5.0)
    assert said(app) == ["ok web: 2 of 2 serve"]
    app.run(10.0)
    assert said(app) == [
        "problem web: DNS, example.org: it does not name web-3: updates fail, and rota events --app web says why"
    ]


@pytest.mark.parametrize(
    ("about", "level", "words"),
    [
        (None, Level.OK, "rota keeps no names; rota serve --dns or --dns-zones has it do so"),
        (
            {"listen": "127.0.0.1:53", "pid": 7, "zones": ["example.org"]},
            Level.OK,
            "rota.internal at 127.0.0.1:53; zones: example.org",
        ),
        ({"listen": None, "pid": None, "zones": ["a.example"]}, Level.OK, "zones: a.example"),
        (
            {"listen": "127.0.0.1:53", "pid": None, "zones": []},
            Level.PROBLEM,
            "the name server for 127.0.0.1:53 does not run; see nameserver.log",
        ),
        ({"listen": "127.0.0.1:53", "pid": 7, "zones": []}, Level.OK, "rota.internal at 127.0.0.1:53"),
    ],
)
def test_the_servers_own_part_in_dns_is_one_line(about: dict[str, object] | None, level: Level, words: str) -> None:
    assert of_dns(about) == Finding(level, "dns", words)
