"""Which requests and connections users have made of an app, as the balancer saw them: read by the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Protocol


class AccessLog(Protocol):
    """A request's entry has ``protocol`` "http" and ``app at client method host path status replica backend received
    sent`` (bytes) ``request_ms queue_ms connect_ms response_ms total_ms`` (-1: it did not come to that) ``retries
    redispatched ended id``; ``at``, seconds of rota's clock, is when the request was over, ``replica`` None when none
    was asked. A TCP connection's has ``protocol`` "tcp" and ``app at client port replica backend received sent queue_ms
    connect_ms total_ms retries redispatched ended id``."""

    async def tail(self, app: str, lines: int) -> list[Mapping[str, Any]]:
        """The last requests, oldest first."""
        ...

    def follow(self, app: str, lines: int) -> AsyncIterator[Mapping[str, Any]]:
        """The last requests, then new ones as they end, without an end."""
        ...
