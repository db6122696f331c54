"""The file, its maps and the state in it: what the core's types let through, HAProxy accepts and rota reads back."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rota.adapters.balancer.haproxy import Settings
from rota.adapters.balancer.haproxy.config import render
from rota.adapters.balancer.haproxy.maps import draws, hosts_map, maps_of, paths_map, routes_map
from rota.adapters.balancer.haproxy.pages import DIRECTORY, page_files
from rota.adapters.balancer.haproxy.state import App, Server, State, read_state
from rota.adapters.balancer.haproxy.succession import PASSED_MAP
from rota.core.backend import Backend
from rota.core.balance import Balance, ByHeader, written
from rota.core.errors import UsageError
from rota.core.healthcheck import MOST_TEXT
from rota.core.names import replica_id
from rota.core.observation import Address
from rota.testing.haproxy import binary_of

APPS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", fullmatch=True)
NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?(\.[a-z0-9]{1,8}){0,3}", fullmatch=True)
BELOW = st.from_regex(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,5}){0,2}", fullmatch=True)
HOSTS = st.tuples(st.sampled_from(["", "*."]), NAMES, BELOW).map("".join) | st.tuples(NAMES, NAMES).map(" > ".join)
PATHS = st.none() | st.from_regex(r"/[!-~]{0,60}", fullmatch=True)
SECONDS = st.floats(min_value=0.05, max_value=3600)
COOKIES = st.none() | st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
BODIES = st.none() | st.text(min_size=1, max_size=MOST_TEXT).filter(str.isprintable)
SITES = ["lax", "strict", "none"]
HEADERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,20}", fullmatch=True)
BALANCES = (st.sampled_from(Balance) | st.builds(ByHeader, header=HEADERS)).map(written)
COUNTS = st.integers(min_value=1, max_value=100)
KEY = "c0ffee"
IPS = st.ip_addresses().map(str)


@st.composite
def apps(draw: st.DrawFn) -> App:
    name = draw(APPS)
    hosts = tuple(draw(st.lists(HOSTS, min_size=1, max_size=3, unique=True)))
    app = App(name)
    for path in draw(st.lists(PATHS, min_size=1, max_size=2, unique=True)):
        times = (draw(SECONDS) for _ in range(3))
        backend = Backend(name, path, *times, draw(COUNTS), draw(COUNTS), draw(COOKIES), draw(st.none() | SECONDS))
        expected = draw(BODIES) if path is not None else None
        backend = replace(backend, balance=draw(BALANCES), expect_body=expected)
        backend = replace(backend, cookie_secure=draw(st.booleans()), cookie_site=draw(st.sampled_from(SITES)))
        backend = replace(
            backend, max_body=draw(st.none() | st.integers(0, 2**40)), request_timeout=draw(st.none() | SECONDS)
        )
        backend = replace(backend, response_timeout=draw(SECONDS), idle_timeout=draw(SECONDS))
        backend = replace(
            backend, pages=draw(st.sampled_from([(), ((503, "a"),), ((404, "n"), (502, "'\n"), (503, "b"))]))
        )
        app = app.prepared(backend, hosts)
        address = Address(draw(IPS), draw(st.integers(1, 65535)))
        replica, pin = replica_id(name, draw(st.integers(1, 9**9))), draw(st.sampled_from(["", "0a1b"]))
        app = app.with_server(Server(replica, backend.name, address, pin))
    app = replace(app, maintenance=draw(st.booleans()))
    return app.routed({pool: draw(st.integers(1, 100)) for pool in app.pools})


def states() -> st.SearchStrategy[State]:
    return st.lists(apps(), max_size=3, unique_by=lambda app: app.name).map(
        lambda found: State({a.name: a for a in found})
    )


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(states())
def test_the_state_is_read_back_from_the_file(state: State) -> None:
    assert read_state(render(state, Settings(Path("/d")), KEY)) == state


@pytest.mark.parametrize("kind", ["system", "bundled"])
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(state=states())
def test_haproxy_accepts_every_file(tmp_path: Path, kind: str, state: State) -> None:
    chosen = Settings(tmp_path, maxconn=100)
    (tmp_path / "haproxy.cfg").write_text(render(state, chosen, KEY))
    (tmp_path / DIRECTORY).mkdir(exist_ok=True)
    for name, text in {**maps_of(state), **page_files(state, chosen)}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / PASSED_MAP).write_text("")
    done = subprocess.run(
        [binary_of(kind), "-c", "-C", str(tmp_path), "-f", "haproxy.cfg"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "[WARNING]" not in done.stderr


def test_a_wildcard_has_what_a_host_leaves() -> None:
    """``www`` is known by two paths alone, and ``shop`` whole: what it has not is not the wildcard's."""
    a, b, c = (Backend(name, None, 1, 1, 1, 1, 1) for name in "abc")
    state = State().with_app(App("a").prepared(a, ("*.x.org", "*.x.org/api", "*.x.org/img")))
    state = state.with_app(App("b").prepared(b, ("www.x.org/api", "www.x.org/doc", "shop.x.org/b")))
    state = state.with_app(App("c").prepared(c, ("shop.x.org", "c.org > shop.x.org")))
    assert hosts_map(state).splitlines() == ["*.x.org /a", "c.org >shop.x.org", "shop.x.org /c", "www.x.org /a"]
    assert paths_map(state).splitlines() == [
        "*.x.org/api/ a",
        "*.x.org/img/ a",
        "shop.x.org/b/ b",
        "www.x.org/api/ b",
        "www.x.org/doc/ b",
        "www.x.org/img/ a",
    ]


def test_an_app_is_led_the_short_way_while_all_its_requests_go_one_way() -> None:
    """``web/`` is there whatever the app does: a request may come between two look-ups of a change."""
    one, other = Backend("web", "/1", 1, 1, 1, 1, 1, "SID"), Backend("web", "/2", 1, 1, 1, 1, 1, "SID")
    app = App("web").prepared(one, ("web.localhost",)).prepared(other, ("web.localhost",))
    assert routes(app) == {"web": one.name, "web/": one.name}
    spread = routes(app.routed({one.name: 30, other.name: 70}))
    assert spread.pop("web/") == other.name
    assert spread.keys() == {f"web/{number}" for number in range(100)}
    pinned = app.with_server(Server(replica_id("web", 1), one.name, Address("127.0.0.1", 8001), "pin1"))
    assert routes(pinned) == {"web": one.name, "web/": one.name}
    assert routes(pinned.routed({other.name: 1})) == {"web/": other.name, "web=pin1": one.name}
    closed = routes(replace(pinned.routed({other.name: 1}), maintenance=True))
    assert closed == {"web": "_maintenance", "web/": "_maintenance"}
    assert routes(App("web")) == {}


def routes(app: App) -> dict[str, str]:
    return dict(line.split() for line in routes_map(State().with_app(app)).splitlines())


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 100), min_size=1))
def test_the_draws_keep_the_shares(shares: dict[str, int]) -> None:
    drawn = draws(shares)
    assert len(drawn) == 100
    for name, share in shares.items():
        assert abs(drawn.count(name) - 100 * share / sum(shares.values())) <= 2
        assert drawn.count(name) >= 1


@pytest.mark.parametrize(
    ("host", "path", "address", "cookie"),
    [
        ("good.example", "/ok\nglobal", "127.0.0.1", None),
        ("bad host", "/ok", "127.0.0.1", None),
        ("good.example", "/ok", "localhost", None),
        ("good.example", "/ok", "127.0.0.1 disabled", None),
        ("good.example", "/ok", "127.0.0.1", "seat domain x"),
        ("good.example", "/ok", "127.0.0.1", "seat;"),
    ],
)
def test_what_would_change_the_files_meaning_is_refused(host: str, path: str, address: str, cookie: str | None) -> None:
    backend = Backend("a", path, 1, 1, 1, 1, 1, cookie)
    server = Server(replica_id("a", 1), backend.name, Address(address, 1))
    with pytest.raises(ValueError, match=r"not a|not appear"):
        _ = render(State({"a": App("a").prepared(backend, (host,)).with_server(server)}), Settings(Path("/d")), KEY)


@pytest.mark.parametrize("text", ["", "ok\nglobal", "ok\r", "a\0b", "\x1b[0m"])
def test_a_body_to_expect_is_one_line(text: str) -> None:
    backend = replace(Backend("a", "/ok", 1, 1, 1, 1, 1), expect_body=text)
    with pytest.raises(ValueError, match="not a text of one line"):
        render(State({"a": App("a").prepared(backend, ("a.localhost",))}), Settings(Path("/d")), KEY)


@pytest.mark.parametrize("bind", ["8080", "host:80", "127.0.0.1:80 ssl", "127.0.0.1:80\n"])
def test_an_address_that_is_none_is_refused(bind: str) -> None:
    with pytest.raises(UsageError, match="not an address"):
        Settings(Path("/d"), (bind,))


def test_a_directory_too_deep_for_a_socket_is_refused() -> None:
    with pytest.raises(UsageError, match="too long"):
        Settings(Path("/" + "d" * 100))


def test_a_damaged_line_is_an_error_and_no_empty_state() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        read_state('# rota app {"name": "a"}\n')


def test_pools_that_lost_everything_are_dropped_and_new_ones_are_not() -> None:
    old, new = Backend("a", "/1", 1, 1, 1, 1, 1), Backend("a", "/2", 1, 1, 1, 1, 1)
    app = App("a").prepared(old, ("a.localhost",)).prepared(new, ("a.localhost",))
    assert set(app.without_unused().pools) == {old.name, new.name}
    assert set(app.routed({new.name: 1}).without_unused().pools) == {new.name}


def test_a_cookie_leads_to_no_pool_of_a_colour_that_is_kept_out_of_service() -> None:
    blue = Backend("web", None, 1.0, 1.0, 1.0, 3, 2, "SID")
    green, other_check = replace(blue, colour=1), replace(blue, fall=5)
    app = App("web")
    for count, pool in enumerate((blue, green, other_check), start=1):
        server = Server(replica_id("web", count), pool.name, Address("127.0.0.1", 8000 + count), f"pin{count}")
        app = app.prepared(pool, ("web.localhost",)).with_server(server)
    assert app.routed({other_check.name: 1}).pins == {"pin1": blue.name, "pin3": other_check.name}
    assert app.routed({green.name: 1}).pins == {"pin2": green.name}
