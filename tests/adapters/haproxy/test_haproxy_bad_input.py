"""From the text of a file to HAProxy's: what is accepted HAProxy accepts, and what it would not is never in force."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rota.adapters.balancer.haproxy import Settings
from rota.adapters.balancer.haproxy.config import render
from rota.adapters.balancer.haproxy.maps import maps_of
from rota.adapters.balancer.haproxy.pages import DIRECTORY, page_files
from rota.adapters.balancer.haproxy.refusal import refusal
from rota.adapters.balancer.haproxy.state import App, Server, State, read_state
from rota.adapters.balancer.haproxy.succession import PASSED_MAP
from rota.core.backend import backend_of
from rota.core.errors import SpecError, StepFailed
from rota.core.names import ReplicaId
from rota.core.observation import Address
from rota.core.pages import MAX_PAGE, ErrorPage
from rota.core.spec import AppSpec
from rota.core.specfile import parse
from rota.testing.haproxy import HOST, Rig, binary_of, pool

NASTY = st.text(st.sampled_from("aZ09-_.~/*<>\n\r\t\0'\"`;\\ %$#{}[]()|&!?=:,@é\u2028\U0001f600"), max_size=12)
PLACES: list[tuple[str, ...]] = [
    ("name",),
    ("domains", "0", "domain"),
    ("domains", "0", "aliases", "0"),
    ("domains", "1", "path"),
    ("health_check_path",),
    ("balance", "header"),
    ("sticky", "cookie"),
    ("sticky", "same_site"),
    ("sticky", "max_age"),
    ("http", "max_body"),
    ("http", "response_timeout"),
    ("error_pages", "503"),
    ("error_pages", "404"),
    ("ports", "0", "listen"),
    ("ports", "0", "sni", "0"),
    ("ports", "0", "proxy_protocol"),
    ("ports", "1", "idle_timeout"),
]


def good() -> dict[str, Any]:
    return {
        "name": "shop",
        "command": ["x"],
        "domains": [{"domain": "www.x.org", "aliases": ["x.org"]}, {"domain": "*.x.org", "path": "/api"}],
        "health_check_path": "/health",
        "balance": {"header": "X-User"},
        "sticky": {"cookie": "seat", "same_site": "lax", "max_age": "1d"},
        "http": {"max_body": "1MiB", "response_timeout": "5s", "request_timeout": "3s"},
        "error_pages": {"503": "soon.html", "404": "none.html"},
        "ports": [
            {"listen": "127.0.0.1:4430", "sni": ["db.x.org"], "proxy_protocol": "v1", "accept_proxy": True},
            {"listen": "[::1]:5432", "port": 5433, "proxy_protocol": True, "idle_timeout": "1d"},
        ],
    }


@st.composite
def files(draw: st.DrawFn) -> str:
    """A good file in which one value begins, ends or is replaced with something nasty."""
    tree: Any = good()
    *way, last = draw(st.sampled_from(PLACES))
    place = tree
    for key in way:
        place = place[int(key) if key.isdigit() else key]
    key = int(last) if isinstance(place, list) else last
    nasty, kept = draw(NASTY), place[key]
    place[key] = draw(st.sampled_from([nasty, kept + nasty, nasty + kept]))
    return json.dumps(tree)


def accepted(kind: str, directory: Path, spec: AppSpec, page: str) -> str:
    """What HAProxy has against an app's part of its file; "" when nothing."""
    pages = tuple(one.model_copy(update={"text": page}) for one in spec.error_pages)
    backend = backend_of(spec.model_copy(update={"error_pages": pages}))
    app = App(spec.name).prepared(backend, tuple(map(str, spec.sites)), spec.listeners)
    ports = tuple((entry.listener.port, entry.target) for entry in spec.ports)
    server = Server(ReplicaId(f"{spec.name}-1"), backend.name, Address("127.0.0.1", 20001), ports=ports)
    state = State().with_app(app.with_server(server))
    (directory / DIRECTORY).mkdir(exist_ok=True)
    chosen = Settings(directory, maxconn=100, trusted=("10.0.0.0/8", "2001:db8::/32"), not_found_page=page)
    files = {**maps_of(state), **page_files(state, chosen), PASSED_MAP: ""}
    texts = {"haproxy.cfg": render(state, chosen, "c0ffee"), **files}
    assert read_state(texts["haproxy.cfg"]) == state
    for name, text in texts.items():
        (directory / name).write_text(text)
    argv = [binary_of(kind), "-c", "-C", str(directory), "-f", "haproxy.cfg"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode or "[WARNING]" in done.stderr else ""


@pytest.mark.parametrize("kind", ["system", "bundled"])
def test_the_good_file_is_accepted_with_the_largest_page(kind: str, tmp_path: Path) -> None:
    assert accepted(kind, tmp_path, parse(json.dumps(good())), "ü" * (MAX_PAGE // 2)) == ""


@pytest.mark.parametrize("kind", ["system", "bundled"])
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(text=files(), page=NASTY)
def test_what_a_file_may_say_haproxy_accepts(kind: str, tmp_path: Path, text: str, page: str) -> None:
    try:
        spec = parse(text)
        ErrorPage(status=503, file="soon.html", text=page)
    except (SpecError, ValueError):
        return
    assert accepted(kind, tmp_path, spec, page) == ""


async def test_a_file_that_haproxy_refuses_is_never_in_force_and_names_its_app(rig: Rig) -> None:
    (server,) = await rig.ready(1, pool())
    before = rig.settings.config.read_text()
    async with rig.load() as load:
        with pytest.raises(
            StepFailed, match=r"because of broken, and the one before stays in force: .*timer overflow"
        ) as refused:
            await rig.balancer.prepare(replace(pool(app="broken"), timeout=1e9), ("broken.localhost",))
        assert "\n" not in str(refused.value)
        assert rig.settings.config.read_text() == before
        await rig.another_daemon()
        await rig.balancer.prepare(pool("/other"), (HOST,))  # what comes after it goes on, by a reload
        await load.further(20)
    assert load.outcomes.keys() == {(200, server.name)}
    assert "broken" not in await rig.balancer.observe()


def test_apps_are_found_by_line_and_by_name() -> None:
    text = "global\n  maxconn 1\nbackend a.00000000\n  one\n\nbackend b.00000000\n  two\nbackend _next\n  three\n"
    alerts = [
        "[ALERT]    (1) : config : parsing [haproxy.cfg:4] : unknown keyword 'one' in 'backend' section",
        "[ALERT]    (1) : config : [haproxy.cfg:9] : 'three'",
        "[ALERT]    (1) : config : backend 'c.0123abcd' has no server",
        "[ALERT]    (1) : config : proxy 'd.0123abcd.5432', another server named 'd-1.5432'",
        "[ALERT]    (1) : config : Error(s) found in configuration file : haproxy.cfg",
    ]
    told = refusal(text, "\n".join(alerts))
    assert " because of a, c, d, " in told
    assert "Error(s)" not in told
    assert refusal(text, "[ALERT] (1) : config : [haproxy.cfg:2] : no").count("because") == 0
    assert refusal(text, "").endswith("it does not say why")
