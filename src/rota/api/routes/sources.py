"""Uploaded source directories: streamed in, found again by their digest."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from rota.api.face import View
from rota.api.routes.context import PROBLEM, Given

router = APIRouter(prefix="/api/v1/sources", tags=["sources"], responses=PROBLEM)

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.post("", status_code=201)
async def upload(request: Request, given: Given) -> View:
    """Keeps an archive, of any size up to the sources' own limit. Its name is its content's digest, so that sending it
    again changes nothing and needs no idempotency key."""
    return {"source": await given.engine.sources.put(request.stream())}


@router.head("/{digest}")
async def has(digest: Digest, given: Given) -> Response:
    """200 when the archive is already here, else 404."""
    return Response(status_code=200 if given.engine.sources.has(digest) else 404)
