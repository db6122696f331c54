"""What a person asks to be run in a replica (``rota exec``): the body of the API's request."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rota.core.model import Command, Model
from rota.core.quantities import Seconds, between

MOST_OUTPUT = 2**20  # bytes of its output that come back: the end


class Errand(Model):
    """``replica`` None is one that serves. After ``timeout`` seconds it is killed with all its processes."""

    command: Command
    replica: Annotated[str, Field(max_length=60)] | None = None
    timeout: Annotated[Seconds, between(0.1, 3600)] = 60.0
