"""TCP services: what is read of ``ports:``, and who is in whose way."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.scenario import deployed, settled, told

from rota.core import order as o
from rota.core import steps as s
from rota.core.backend import backend_of
from rota.core.begin import begin
from rota.core.errors import PortTaken, SpecError
from rota.core.member import ReplicaPhase
from rota.core.rollout import Phase
from rota.core.spec import AppSpec
from rota.core.specfile import parse
from rota.core.tcp import Listener, contested, merged, reserved, targets, variables
from rota.testing.simulation_history import spec_of

GOOD = "name: db\ncommand: [serve]\n"
NAMED = Listener(443, names=("a.org", "b.org"))


def spec(*ports: dict[str, Any], **keys: Any) -> AppSpec:
    return AppSpec.model_validate({"name": "db", "command": ["serve"], "ports": ports, **keys})


def test_a_port_alone_is_one_of_the_loopback_and_the_replicas_too() -> None:
    (entry,) = parse(f"{GOOD}ports: [{{listen: 5432}}]\n").ports
    assert entry.listener == Listener(5432)
    assert (entry.listener.place, entry.target, entry.sends) == ("127.0.0.1:5432", 5432, "")
    assert str(entry.listener) == "tcp://127.0.0.1:5432"


def test_all_that_an_entry_may_say() -> None:
    (first, second) = parse(
        GOOD
        + """\
ports:
  - {listen: "[::]:993", port: "1993", sni: [Mail.x.org, "*.x.org"], proxy_protocol: true, accept_proxy: true}
  - {listen: 0.0.0.0:22, proxy_protocol: v1, idle_timeout: 1d}
"""
    ).ports
    assert first.listener == Listener(993, "::", ("*.x.org", "mail.x.org"), behind_proxy=True)
    assert str(first.listener) == "tcp://[::]:993 (*.x.org, mail.x.org)"
    assert (first.target, first.sends) == (1993, "v2")
    assert (second.listener.place, second.sends, second.idle_timeout) == ("0.0.0.0:22", "v1", 86400.0)
    assert spec({"listen": 1, "proxy_protocol": False}).ports[0].sends == ""
    assert AppSpec.model_validate(spec({"listen": 1, "proxy_protocol": "v2"}).model_dump()).ports[0].sends == "v2"


@pytest.mark.parametrize(
    ("ports", "place", "said"),
    [
        ("[{listen: 1}, {listen: '0.0.0.0:1'}]", "3:31", "ports.listen: port 1 is given twice"),
        ("[{listen: 0}]", "3:18", "ports.listen: 1 to 65535 is expected, not 0"),
        ("[{listen: 70000}]", "3:18", "ports.listen: 1 to 65535 is expected, not 70000"),
        (
            "[{listen: true}]",
            "3:18",
            "ports.listen: a port is expected, such as 5432, or 0.0.0.0:5432 with its address",
        ),
        ('[{listen: "x.org:1"}]', "3:18", "ports.listen: an address of this machine is expected, such as 0.0.0.0"),
        ('[{listen: "1\\n"}]', "3:18", "ports.listen: a port is expected"),
        ("[{listen: 1, port: 0}]", "3:27", "ports.port: at least 1 is expected, not 0"),
        ("[{port: 1}]", "3:9", 'the key "listen" is missing'),
        ("[{listen: 1, sni: x.org}]", "3:26", "ports.sni: a list of names is expected, such as [db.example.org]"),
        ('[{listen: 1, sni: ["x\\n"]}]', "3:27", 'ports.sni: a domain name is expected, not "x\\n"'),
        ("[{listen: 1, proxy_protocol: v3}]", "3:37", "ports.proxy_protocol: true (v2), v1 or v2 is expected"),
        ("[{listen: 1, protocol: tcp}]", "3:21", 'unknown key "protocol"'),
        ("['5432:5432']", "3:9", "ports: an entry is written as - listen: 5432"),
        ("5432", "3:8", "ports: a list is expected, each entry as in - listen: 5432"),
        ("[{listen: 1, port: 80}]\nport: 80", "3:27", "ports.port: 80 is the replica's port for HTTP"),
        ("[{listen: 80}]\nport: 80", "3:18", "ports.listen: 80 is the replica's port for HTTP"),
    ],
)
def test_mistakes_are_named_at_their_place(ports: str, place: str, said: str) -> None:
    with pytest.raises(SpecError) as refused:
        parse(f"{GOOD}ports: {ports}\n")
    (problem,) = refused.value.problems
    assert str(problem).startswith(f"rota.yaml:{place}: {said}")


def test_an_app_of_tcp_services_alone_is_not_asked_for_http() -> None:
    alone = spec({"listen": 5432}, {"listen": 5433, "port": 6000})
    assert (alone.serves_http, alone.sites, alone.hosts, alone.main_port) == (False, (), (), 5432)
    assert alone.check_host == "localhost"
    for keys in ({"domains": [{"domain": "x.org"}]}, {"port": 8080}):
        both = spec({"listen": 5432}, **keys)
        assert both.serves_http
        assert both.main_port == keys.get("port")
    assert [str(site) for site in spec({"listen": 5432}, port=8080).sites] == ["db.localhost"]


def test_replicas_learn_their_ports_by_the_file_s_numbers() -> None:
    assert targets(spec({"listen": 1, "port": 7}, {"listen": 2, "port": 7}, {"listen": 3}).ports) == (7, 3)
    assert variables({5432: 20001, 22: 20002}) == {"PORT_22": "20002", "PORT_5432": "20001"}


def test_services_make_another_pool_and_none_leaves_the_name_as_it_was() -> None:
    plain, one, told = (
        backend_of(spec(*ports, port=8080)) for ports in ([], [{"listen": 2}], [{"listen": 2, "proxy_protocol": True}])
    )
    assert plain.tcp == ()
    assert plain.name == backend_of(AppSpec(name="db", command=("serve",))).name
    assert one.tcp == ((2, "", 3600.0),)
    assert len({plain.name, one.name, told.name}) == 3


@pytest.mark.parametrize(
    ("ours", "theirs", "said"),
    [
        (Listener(1), Listener(2), None),
        (Listener(1), Listener(1, "10.0.0.1"), "port 1"),
        (Listener(443), NAMED, "port 443"),
        (NAMED, Listener(443), "port 443"),
        (NAMED, Listener(443, names=("c.org",)), None),
        (NAMED, Listener(443, names=("b.org", "c.org")), "the name b.org on port 443"),
        (NAMED, Listener(443, "::", ("c.org",)), "port 443, which listens on [::]:443,"),
        (
            NAMED,
            Listener(443, names=("c.org",), behind_proxy=True),
            "port 443, which listens on 127.0.0.1:443 behind a proxy,",
        ),
    ],
)
def test_two_apps_share_a_port_by_name_alone(ours: Listener, theirs: Listener, said: str | None) -> None:
    assert contested(ours, [theirs]) == said


def test_old_and_new_listeners_go_together() -> None:
    assert merged([Listener(1), Listener(2)], [Listener(2, "::"), Listener(3)]) == (
        Listener(1),
        Listener(2, "::"),
        Listener(3),
    )
    more = Listener(443, names=("a.org", "b.org", "z.org"))
    assert merged([NAMED], [Listener(443, names=("z.org",))]) == (more,)
    assert merged([NAMED], [Listener(443)]) == (Listener(443),)


def test_rota_s_own_ports_are_named() -> None:
    ours = {"the API's": range(7700, 7701), "the leases": range(20000, 20010)}
    assert reserved(Listener(20005), ours) == "the leases"
    assert reserved(Listener(20010), ours) is None


@pytest.mark.parametrize(("more", "key"), [({}, "ports.1.listen"), ({"sni": ["a.org"]}, "ports.1.sni")])
def test_a_port_of_another_app_is_refused_at_its_key(more: dict[str, Any], key: str) -> None:
    order = o.Deploy(spec=spec({"listen": 1}, {"listen": 443, **more}))
    with pytest.raises(PortTaken, match="belongs to the app 'other'; give 'db' another one") as refused:
        begin(None, order, "db", 0.0, {}, listeners={"other": [NAMED]})
    assert (refused.value.key, refused.value.exit_code, refused.value.code) == (key, 3, "port-taken")
    begin(None, order, "db", 0.0, {}, listeners={"other": [Listener(2)]})


def test_listeners_come_before_the_first_hand_off_and_go_after_the_last() -> None:
    simulation = deployed(replicas=2, ports=[{"listen": 5432}], port=8080)
    known = simulation.balancer.apps["web"]
    assert known.listeners == {Listener(5432)}
    simulation.order(o.Deploy(spec=spec_of(replicas=2, ports=[{"listen": 6000, "port": 5432}], port=8080)))
    simulation.run(60.0, until=lambda: "DisableServer web-1" in simulation.kinds())
    assert known.listeners == {Listener(5432), Listener(6000)}
    simulation.run(60.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    assert known.listeners == {Listener(6000)}
    assert len(told(simulation, "PrepareBackend")) == 2
    settled(simulation)


def test_an_app_of_tcp_services_alone_lives_and_goes_as_others_do() -> None:
    simulation = deployed(replicas=2, ports=[{"listen": 5432}])
    assert {member.phase for member in simulation.here().members.values()} == {ReplicaPhase.READY}
    simulation.order(o.Restart())
    simulation.run(60.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
    settled(simulation)
    simulation.order(o.Remove())
    simulation.run(60.0)
    assert simulation.state is None
    assert simulation.balancer.apps == {}


def test_a_removed_app_is_gone_once_nobody_listens_for_it_any_more() -> None:
    simulation = deployed(replicas=1, ports=[{"listen": 5432}])
    simulation.takes = lambda step: 3.0 if isinstance(step, s.UnrouteApp) else 0.0  # it waits for a reload
    simulation.order(o.Remove())
    simulation.run(2.0)
    assert told(simulation, "UnrouteApp", "DeleteReleases", "ForgetApp") == ["UnrouteApp"]
    simulation.balancer.apps.clear()  # as the adapter, whose file is without it first
    simulation.run(0.5)
    assert told(simulation, "UnrouteApp", "DeleteReleases", "ForgetApp") == ["UnrouteApp"]
    assert simulation.state is not None
    simulation.run(60.0)
    assert simulation.state is None


def test_a_port_that_another_program_took_is_waited_for() -> None:
    simulation = deployed(replicas=1, port=8080)
    simulation.balancer.in_use = {5432}
    simulation.order(o.Deploy(spec=spec_of(replicas=1, ports=[{"listen": 5432}], port=8080)))
    simulation.run(5.0)
    assert simulation.rollout.phase is Phase.PROGRESSING
    assert not told(simulation, "DisableServer")
    simulation.balancer.in_use = set()
    simulation.run(60.0)
    assert simulation.rollout.phase is Phase.SUCCEEDED
