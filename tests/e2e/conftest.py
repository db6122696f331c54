"""One real server for all tests of a session that leave it as it was, and apps on it, each with a name of its own."""

from __future__ import annotations

import itertools
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from tests.e2e.running import Hello, Server
from tests.e2e.site import RUNTIMES, Containers, Processes, Site

from rota.testing.docker import DockerEngine
from rota.testing.docker import docker_engine as engine_of_its_own

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/hello"
LOAD_TRIES = 3
_numbers = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one module and runtime share a server, so that one worker runs them, in their order; what only one
    runtime has is left out for the other. First, because xdist reads the groups in this same hook: after it, they would
    count for nothing, and each worker would run every other test of a module."""
    for item in [item for item in items if item.path.parent == Path(__file__).parent]:
        params = getattr(item, "callspec", None)
        runtime = params.params.get("site", "") if params is not None else ""
        item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{runtime}"))
        only = item.get_closest_marker("runtime")
        if runtime and only is not None and runtime not in only.args:
            items.remove(item)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """A load run whose generator could not keep its rate shows nothing, neither good nor bad: such a test is tried
    again, and fails when it is never valid."""
    if item.path.parent != Path(__file__).parent:
        return None
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for left in reversed(range(LOAD_TRIES)):
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if not left or not any(report.failed and "InvalidLoad" in report.longreprtext for report in reports):
            break
        warnings.warn(f"{item.nodeid} is tried again: its load run was invalid", stacklevel=1)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


@pytest.fixture(scope="session")
def docker_engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    """An engine of the tests' own, which has hello's image."""
    component("docker-engine")
    with engine_of_its_own() as engine:
        engine.import_hello(EXAMPLE)
        yield engine


@pytest.fixture(scope="session", params=RUNTIMES)
def site(request: pytest.FixtureRequest, component: Callable[[str], Path]) -> Site:
    component("haproxy")
    return Processes() if request.param == "process" else Containers(request.getfixturevalue("docker_engine"))


@pytest.fixture(scope="session")
def server(site: Site) -> Iterator[Server]:
    running = Server(site=site)
    try:
        running.start()
        yield running
    finally:
        running.end()


@pytest.fixture
def hello(server: Server, tmp_path: Path) -> Iterator[Hello]:
    """Not deployed yet; removed in the end."""
    app = new_hello(server, tmp_path / "hello")
    yield app
    server.rota("remove", app.name, "--yes", "--supersede")


def new_hello(server: Server, directory: Path) -> Hello:
    shutil.copytree(EXAMPLE, directory)
    return Hello(server, directory, f"hello{next(_numbers)}")
