"""Who may ask for what, and how often: rota's own networks everything, others a few answers a second; asked by the
front before each answer."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterable, Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

RATE = 20.0  # answers a second to one unknown network (/24, /56): a stub resolver asks far less often
BURST = 40.0  # answers at once to it
ALL_RATE = 500.0  # answers a second to all unknown networks together
MOST_SOURCES = 4096  # remembered at once; forged addresses cannot make it grow


def parse_networks(texts: Iterable[str]) -> list[Network]:
    """Raises ValueError."""
    return [ipaddress.ip_network(text) for text in texts]


class Allowance:
    """A token bucket for each unknown network and one for all of them."""

    def __init__(self, networks: Sequence[Network], clock: Callable[[], float] = time.monotonic) -> None:
        self._networks = networks
        self._clock = clock
        self._known: dict[str, bool] = {}
        self._buckets: dict[str, tuple[float, float]] = {}
        self._all = (ALL_RATE, clock())

    def is_known(self, host: str) -> bool:
        """Whether the client is in one of rota's own networks."""
        known = self._known.get(host)
        if known is None:
            address = _address(host)
            known = any(address in network for network in self._networks if network.version == address.version)
            if len(self._known) >= MOST_SOURCES:
                self._known.clear()
            self._known[host] = known
        return known

    def take(self, host: str) -> bool:
        """Whether an unknown client may be given one more answer now."""
        now, name = self._clock(), network_of(host)
        if name not in self._buckets and len(self._buckets) >= MOST_SOURCES:
            self._buckets.clear()
        left = _filled(self._buckets.get(name, (BURST, now)), now, RATE, BURST)
        left_of_all = _filled(self._all, now, ALL_RATE, ALL_RATE)
        allowed = left >= 1 and left_of_all >= 1
        self._buckets[name] = (left - allowed, now)
        self._all = (left_of_all - allowed, now)
        return allowed


def _filled(bucket: tuple[float, float], now: float, rate: float, most: float) -> float:
    left, at = bucket
    return min(most, left + (now - at) * rate)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """A client of a socket for both families comes as ``::ffff:192.0.2.1``, one of a link with its ``%scope``."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def network_of(host: str) -> str:
    """What counts as one unknown client: /24, /56."""
    address = _address(host)
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 56), strict=False))
