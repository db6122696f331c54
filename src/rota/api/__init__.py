"""The HTTP API over the engine: JSON, server-sent events, problem+json (design.md, "HTTP API")."""

from rota.api.application import create_api
from rota.api.face import EngineFace

__all__ = ["EngineFace", "create_api"]
