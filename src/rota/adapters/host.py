"""The host that rota runs on, looked over: HAProxy, ports, disk, open files, cgroups, clock, Docker (H12); asked by
``rota doctor``, through the server or, where none answers, without one. Changes nothing."""

from __future__ import annotations

import ctypes
import datetime
import os
import re
import resource
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

from rota.core.diagnosis import Finding, Level
from rota.core.errors import Missing
from rota.core.shortage import in_words, is_short

OLD_AFTER = 730  # days since HAProxy's release: two years
LEAST_FILES = 8192  # open files: two a proxied connection, for some thousand of them
LOCAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
DOCKER = "/var/run/docker.sock"
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_RELEASED = re.compile(r"HAProxy version (\S+) (\d{4})/(\d\d)/(\d\d)")
_SUPPORTED = re.compile(r"until Q([1-4]) (\d{4})")


def examine(
    data_dir: Path, ports: range, haproxy: Callable[[], str], contains: bool, docker: bool = False
) -> tuple[Finding, ...]:
    """``haproxy`` finds the program and raises Missing; ``contains``: whether cgroups are writable; ``docker``: whether
    it is needed."""
    today = datetime.datetime.now(datetime.UTC).date()
    return (
        _haproxy(haproxy, today),
        _ports(ports),
        _disk(data_dir),
        _open_files(),
        _cgroups(contains),
        _clock(),
        _docker(docker),
    )


def _haproxy(find: Callable[[], str], today: datetime.date) -> Finding:
    try:
        path = find()
        said = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False).stdout
    except Missing as error:
        return Finding(Level.PROBLEM, "haproxy", str(error))
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(Level.PROBLEM, "haproxy", f"{path} does not run: {error}")
    return haproxy_finding(path, said, today)


def haproxy_finding(path: str, said: str, today: datetime.date) -> Finding:
    """What ``haproxy -v`` says of its own age."""
    released = _RELEASED.search(said)
    if released is None:
        return Finding(Level.WARNING, "haproxy", f"{path}: its version cannot be read")
    version, of = released[1], datetime.date(int(released[2]), int(released[3]), int(released[4]))
    text = f"{path} {version}, released {of}"
    supported = _SUPPORTED.search(said)
    if supported is not None and today > _quarter_end(int(supported[2]), int(supported[1])):
        return Finding(
            Level.WARNING, "haproxy", f"{text}: it has got no fixes since {supported[0][6:]}; install a later one"
        )
    if (today - of).days > OLD_AFTER:
        return Finding(
            Level.WARNING, "haproxy", f"{text}: that is more than two years ago; see whether there are fixes"
        )
    return Finding(Level.OK, "haproxy", text)


def _quarter_end(year: int, quarter: int) -> datetime.date:
    following = datetime.date(year + quarter // 4, quarter % 4 * 3 + 1, 1)
    return following - datetime.timedelta(days=1)


def _ports(ports: range) -> Finding:
    """The kernel gives outgoing connections ports of a range of its own: a replica's port in there may be taken."""
    about = f"{ports.start} to {ports.stop - 1} for replicas"
    try:
        low, high = map(int, LOCAL_PORTS.read_text().split())
    except OSError:
        return Finding(Level.OK, "ports", about)
    if ports.start <= high and low < ports.stop:
        said = (
            f"{about} overlap {low} to {high}, which the kernel gives to outgoing connections; give rota serve --ports"
        )
        return Finding(Level.WARNING, "ports", said)
    return Finding(Level.OK, "ports", f"{about}, outgoing connections have {low} to {high}")


def _disk(data_dir: Path) -> Finding:
    there = next(place for place in (data_dir, *data_dir.parents) if place.exists())
    usage = shutil.disk_usage(there)
    level = Level.PROBLEM if is_short(usage.free, usage.total) else Level.OK
    return Finding(level, "disk", f"{in_words(usage.free, usage.total)} at {there}")


def _open_files() -> Finding:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < LEAST_FILES:
        said = f"{most} at most, which is {most // 2} connections; raise LimitNOFILE of the unit, or ulimit -n"
        return Finding(Level.WARNING, "open files", said)
    return Finding(Level.OK, "open files", "no limit" if most == resource.RLIM_INFINITY else f"{most} at most")


def _cgroups(contains: bool) -> Finding:
    if contains:
        return Finding(Level.OK, "cgroups", "writable: limits are enforced")
    return Finding(
        Level.WARNING,
        "cgroups",
        "not writable: limits are not enforced, and a replica's stray processes are found by their environment alone; "
        "run rota as root, or give its unit Delegate=yes",
    )


def _clock() -> Finding:
    if _synchronised():
        return Finding(Level.OK, "clock", "synchronised")
    said = "not synchronised by NTP: times in events and certificates may be off; rota's own waits do not depend on it"
    return Finding(Level.WARNING, "clock", said)


def _synchronised() -> bool:
    """By adjtimex(2) with no mode set, which only reads; its structure is 208 bytes long on 64-bit machines."""
    libc = ctypes.CDLL(None, use_errno=True)
    state: int = libc.adjtimex(ctypes.create_string_buffer(1024))
    return 0 <= state < _TIME_ERROR


def _docker(needed: bool) -> Finding:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(2)
        try:
            asking.connect(DOCKER)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            if needed:
                return Finding(Level.PROBLEM, "docker", f"does not answer at {DOCKER} ({why}); start it")
            return Finding(Level.OK, "docker", f"none at {DOCKER} ({why}); the process runtime needs none")
    return Finding(Level.OK, "docker", f"answers at {DOCKER}")


def isolation(own_user: bool) -> Iterator[Finding]:
    """As root, without a user for the apps."""
    if os.geteuid() == 0 and not own_user:
        said = "apps run as root, isolated neither from each other nor rota from them; give rota serve --process-user"
        yield Finding(Level.WARNING, "users", said)
