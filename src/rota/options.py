"""The options of ``rota serve``, read and judged before anything is begun; used by the daemon alone."""

from __future__ import annotations

import argparse
import ipaddress
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rota.adapters.balancer.haproxy.settings import RELOAD_INTERVAL
from rota.adapters.dns.internal import LONGEST_TTL, TTL
from rota.adapters.dns.settings import HostedSettings, ZoneSettings, read_zones
from rota.adapters.runtime.process.layout import account
from rota.core.errors import StartFailed, UsageError
from rota.core.fitness import RuntimeKind
from rota.core.pages import MAX_PAGE, page_text
from rota.core.quantities import seconds

LONGEST_RELOAD_INTERVAL = 300.0  # seconds: a new app waits for it


@dataclass(frozen=True)
class Options:
    data_dir: Path
    api: tuple[str, int]
    http: str
    runtime: RuntimeKind
    process_user: str | None
    ports: range
    docker_host: str | None
    dns: str | None = None
    dns_networks: tuple[str, ...] = ()
    dns_zones: tuple[ZoneSettings | HostedSettings, ...] = ()
    notify: tuple[str, ...] = ()
    reload_interval: float = RELOAD_INTERVAL
    dns_ttl: int = 1
    trusted_proxies: tuple[str, ...] = ()
    not_found_page: str | None = None


def read_options(argv: Sequence[str]) -> Options:
    """Raises UsageError for what the machine cannot be asked to do, SystemExit for what is no option."""
    parser = argparse.ArgumentParser(
        prog="rota serve",
        description="Runs the server: it keeps the apps as they are to be, behind HAProxy.",
        epilog="example: rota serve --data-dir ./state --http 127.0.0.1:8080",
    )
    add = parser.add_argument
    add("--data-dir", type=Path, default=default_data_dir(), help="where everything is kept (default: %(default)s)")
    add("--api", default="127.0.0.1:7700", help="the API's address, on the loopback only (default: %(default)s)")
    add("--http", default="0.0.0.0:8080", help="where users come in (default: %(default)s)")
    kinds = [kind.value for kind in RuntimeKind]
    add("--runtime", choices=kinds, default="process", help="what replicas are (default: %(default)s)")
    engine = "the Docker engine's address, unix://, tcp:// or ssh:// (default: DOCKER_HOST, else the local socket)"
    add("--docker-host", metavar="ADDRESS", help=engine)
    add("--process-user", help="the user that apps run as when their file names none (as root only)")
    add("--ports", default="20000-29999", help="ports for replicas (default: %(default)s)")
    add("--dns", metavar="ADDRESS", help="answer for rota.internal there, e.g. 127.0.0.1:5353 (default: no DNS)")
    allow = "a network that may ask --dns for other names too, beside the loopback; may be given again"
    add("--dns-allow", action="append", default=[], metavar="NETWORK", help=allow)
    ttl = "for how long the answers of --dns may be kept, 1s to 5s (default: %(default)s)"
    add("--dns-ttl", default="1s", metavar="TIME", help=ttl)
    add("--dns-zones", type=Path, metavar="FILE", help="zones outside to keep records in")
    add("--notify", action="append", default=[], metavar="URL", help="where notices go (apprise URL; may be repeated)")
    pace = "the shortest time between two reloads of HAProxy; new apps wait for the next (default: 10s)"
    proxies = "networks, with commas between, of proxies in front whose X-Forwarded-… and X-Request-Id are believed"
    add("--trusted-proxies", default="", metavar="NETWORKS", help=proxies)
    page = "HTML for requests to a host, or a path of one, that no app has (default: a line of text)"
    add("--not-found-page", type=Path, metavar="FILE", help=page)
    add("--reload-interval", default=RELOAD_INTERVAL, metavar="TIME", help=pace)
    given = parser.parse_args(list(argv))
    return Options(
        given.data_dir.absolute(),
        _api_address(given.api),
        _http_address(given.http),
        RuntimeKind(given.runtime),
        _process_user(given.process_user),
        _ports(given.ports),
        given.docker_host,
        _dns_address(given.dns),
        _networks(given.dns_allow, "--dns-allow"),
        read_zones(given.dns_zones) if given.dns_zones is not None else (),
        tuple(given.notify),
        _reload_interval(given.reload_interval),
        _dns_ttl(given.dns_ttl),
        _networks(filter(None, given.trusted_proxies.split(",")), "--trusted-proxies"),
        _page(given.not_found_page) if given.not_found_page is not None else None,
    )


def _page(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return page_text(file.read(MAX_PAGE + 1))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"--not-found-page {path} cannot be used: {reason}") from error


def default_data_dir() -> Path:
    """``/var/lib/rota`` for root, else in the XDG state directory (design.md, "Environment")."""
    if "ROTA_DATA_DIR" in os.environ:
        return Path(os.environ["ROTA_DATA_DIR"])
    if os.geteuid() == 0:
        return Path("/var/lib/rota")
    return Path(os.environ.get("XDG_STATE_HOME", Path.home() / ".local/state")) / "rota"


def _api_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    if not _is_port(port, least=0):
        raise UsageError(f"--api {text}: write it as 127.0.0.1:7700")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError as error:
        raise UsageError(f"--api {text}: {host} is not an address") from error
    if not loopback:
        raise UsageError(
            f"--api {text}: an address other than the loopback needs TLS, which this version does not have"
        )
    return "127.0.0.1" if host == "localhost" else host, int(port)


def _http_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    wrong = UsageError(f"--http {text}: write it as 0.0.0.0:8080 or [::]:8080")
    if not _is_port(port):
        raise wrong
    if host not in ("", "*"):
        try:
            ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
        except ValueError:
            raise wrong from None
    return text


def _is_port(text: str, least: int = 1) -> bool:
    """``least`` 0: one that the system chooses will do."""
    return text.isascii() and text.isdigit() and least <= int(text[:6]) <= 65535


def _dns_address(text: str | None) -> str | None:
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
        right = _is_port(port)
    except ValueError:
        right = False
    if not right:
        raise UsageError(f"--dns {text}: write it as 127.0.0.1:5353 or [::1]:5353")
    return text


def _dns_ttl(text: str) -> int:
    seconds = text.removesuffix("s")
    if not (seconds.isascii() and seconds.isdigit() and TTL <= int(seconds[:3]) <= LONGEST_TTL):
        raise UsageError(f"--dns-ttl {text}: write it as 1s, at most {LONGEST_TTL}s")
    return int(seconds)


def _networks(texts: Iterable[str], option: str) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(text.strip())) for text in texts)
    except ValueError as error:
        raise UsageError(f"{option}: {error}; write it as 172.17.0.0/16") from error


def _process_user(name: str | None) -> str | None:
    """Refused now, not at the first deploy."""
    try:
        account(name)
    except StartFailed as error:
        raise UsageError(f"--process-user: {error}") from error
    return name


def _ports(text: str) -> range:
    first, _, last = text.partition("-")
    if not (_is_port(first, least=1024) and _is_port(last, least=1024) and int(first) <= int(last)):
        raise UsageError(f"--ports {text}: write it as 20000-29999")
    return range(int(first), int(last) + 1)


def _reload_interval(text: str | float) -> float:
    try:
        interval = seconds(text)
    except ValueError as error:
        raise UsageError(f"--reload-interval: {error}") from error
    if interval > LONGEST_RELOAD_INTERVAL:
        raise UsageError(f"--reload-interval {text}: at most {LONGEST_RELOAD_INTERVAL:g} seconds")
    return interval
