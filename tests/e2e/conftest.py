"""One real server for all tests of a session that leave it as it was, and apps on it, each with a name of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from tests.e2e.running import Hello, Server
from tests.e2e.site import RUNTIMES, Containers, Processes, Site
from tests.e2e.warm import WarmCommands
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from rota.testing.docker import DockerEngine
from rota.testing.docker import docker_engine as engine_of_its_own
from rota.testing.server import RunningServer

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples/hello"
LOAD_TRIES = 3
_numbers = itertools.count(1)


class ByServer(LoadScopeScheduling):
    """Tests of one module and runtime share a server, so that one worker runs them, in their order. By the test's name:
    the marker that xdist has for it is not seen under pytest 9.2, which keeps the names elsewhere."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, test = nodeid.partition("::")
        values = test.partition("[")[2].removesuffix("]").split("-")
        return "-".join([module, *(runtime for runtime in RUNTIMES if runtime in values)])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByServer:
    return ByServer(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What only one runtime has is left out for the other; bin/test says how much the short form leaves out."""
    shortened: list[str] = []
    for item in [item for item in items if item.path.parent == HERE]:
        params = getattr(item, "callspec", None)
        runtime = params.params.get("site", "") if params is not None else ""
        only = item.get_closest_marker("runtime")
        if runtime and only is not None and runtime not in only.args:
            items.remove(item)
            if only.kwargs.get("short"):
                shortened.append(f"{item.nodeid}\n")
    if listed := os.environ.get("ROTA_SHORT_LIST"):  # by each worker: the lines of one are written in one piece
        with Path(listed).open("ab", buffering=0) as file:
            file.write("".join(shortened).encode())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """A load run whose generator could not keep its rate shows nothing, neither good nor bad: such a test is tried
    again, and fails when it is never valid."""
    if item.path.parent != HERE:
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


@pytest.fixture(scope="session", autouse=True)
def warm_commands() -> Iterator[None]:
    """To load the command line costs more than most commands do: it is loaded once, and forked for each."""
    with tempfile.TemporaryDirectory(prefix="rota-") as directory, pytest.MonkeyPatch.context() as patch:
        warm = WarmCommands(Path(directory))
        patch.setattr(RunningServer, "rota", warm.command)
        yield
        warm.close()


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
