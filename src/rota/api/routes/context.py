"""What every route is given: the engine and what the API keeps beside it; taken from the running app by FastAPI."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Path, Request

from rota.api.face import EngineFace
from rota.api.idempotency import OnlyOnce
from rota.core.names import AppName


@dataclass(frozen=True)
class Context:
    """``closing`` is set when the daemon goes: streams then end."""

    engine: EngineFace
    once: OnlyOnce
    closing: asyncio.Event


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


Given = Annotated[Context, Depends(_context)]
App = Annotated[AppName, Path(description="An app's name")]
Rollout = Annotated[str, Path(pattern=r"^[a-z0-9-]{1,40}\.[0-9]{1,9}$", description="A rollout's id, such as hello.3")]

PROBLEM: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong (RFC 9457)",
        "content": {
            "application/problem+json": {
                "schema": {
                    "type": "object",
                    "required": ["type", "title", "status", "detail", "code"],
                    "properties": {
                        "type": {"type": "string"},
                        "title": {"type": "string"},
                        "status": {"type": "integer"},
                        "detail": {"type": "string"},
                        "code": {"type": "string"},
                        "exit_code": {"type": "integer"},
                    },
                }
            }
        },
    }
}
"""Declared on every route in place of FastAPI's own 422, which this API never sends."""
