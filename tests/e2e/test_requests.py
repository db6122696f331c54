"""The HTTP front as a person sets it up and reads it: aliases, maintenance with pages, the access log, weights."""

from __future__ import annotations

import json

import pytest
from tests.e2e.conftest import new_hello
from tests.e2e.running import Server
from tests.e2e.scenario import same_on_both

PAGE = "<h1>Soon</h1>\n"
NOWHERE = "<h1>Nobody has this</h1>\n"


@same_on_both
@pytest.mark.feature("H10")
def test_an_app_with_an_alias_a_page_and_maintenance_over_a_crash(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    app = new_hello(server, tmp_path_factory.mktemp("front") / "hello")
    (app.directory / "soon.html").write_text(PAGE)
    (app.directory / "none.html").write_text(NOWHERE)
    keys = {
        "domains": [{"domain": app.host, "aliases": ["old.example.org"]}, {"domain": "*.example.org", "path": "/x"}],
        "error_pages": {"404": "none.html", "503": "soon.html"},
    }
    app.write(**keys)
    assert app.deploy().code == 0
    assert server.request("old.example.org", "/a?b=c").status == 301
    assert server.request("any.example.org", "/x/y").status in (200, 404)  # the app's own answer
    assert server.request("any.example.org", "/y").body == NOWHERE
    assert "No app has this host name" in server.request("example.net", "/y").body

    assert server.ok("maintenance", "on", app.name).out == f"{app.name}: maintenance is on\n"
    server.kill()
    server.start()
    restarted = server.ok("restart", app.name, "--json").out
    assert json.loads(restarted)["phase"] == "succeeded"
    reply = app.request("/kept/out")
    assert (reply.status, reply.body) == (503, PAGE)
    assert "in maintenance" in server.ok("status", app.name).out
    server.ok("maintenance", "off", app.name)
    assert app.request("/").status == 200

    entries = json.loads(server.ok("logs", app.name, "--access", "--json").out)["requests"]
    told = {(entry["host"], entry["path"], entry["status"]): entry["replica"] for entry in entries}
    assert told["old.example.org", "/a", 301] is None
    assert told[app.host, "/kept/out", 503] is None
    assert told[app.host, "/", 200] in app.ids

    before = app.ids
    app.write(**keys, weights={"1": 50, "2": 200})
    assert app.deploy().code == 0
    server.kill()
    server.start()
    assert app.ids == before  # of the same release: HAProxy was told, and remembers
    replicas = json.loads(server.ok("ps", app.name, "--json").out)["replicas"]
    heavy = {one["weight"]: one["id"] for one in replicas}
    assert ({one["release"] for one in replicas}, sorted(heavy)) == ({1}, [50, 200])
    answered = [app.request("/").replica for _ in range(50)]
    assert answered.count(heavy[200]) > 2 * answered.count(heavy[50]) > 0
    server.ok("remove", app.name, "--yes")
