"""What HAProxy allows of an app's requests: ``http:`` in rota.yaml; read by spec and backend."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rota.core.model import Model, Switch
from rota.core.quantities import Seconds, Size, between

LEAST_RESPONSE_TIMEOUT = 60.0
"""Unless the file says otherwise: a slow request has this long, or as long as ``drain.timeout``."""

IDLE_TIMEOUT = 3600.0


class HttpOptions(Model):
    """``max_body`` in bytes, times in seconds; None is no limit, but for ``response_timeout`` "as said above"."""

    max_body: Annotated[Size, Field(ge=0)] | None = None
    request_timeout: Annotated[Seconds, between(0.1, 3600)] | None = None
    response_timeout: Annotated[Seconds, between(0.1, 86400)] | None = None
    idle_timeout: Annotated[Seconds, between(1, 7 * 86400)] = IDLE_TIMEOUT
    access_log: Switch = True
