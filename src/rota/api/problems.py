"""Errors as problem+json (RFC 9457): every answer of the API that is no success is made here."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from rota.core.errors import CapacityError, Conflict, NotFound, Problem, RotaError, SpecError, Taken, UsageError
from rota.core.mistakes import in_words
from rota.core.quantities import quoted
from rota.core.rollout import Kind

MEDIA_TYPE = "application/problem+json"

_PLACES = ("body", "query", "path", "header")


def problem(status: int, code: str, detail: str, *, exit_code: int = 1, **more: Any) -> JSONResponse:
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(
        body | {"code": code, "exit_code": exit_code} | more, status, headers=headers, media_type=MEDIA_TYPE
    )


def problem_of(error: RotaError, status: int | None = None) -> JSONResponse:
    more: dict[str, Any] = {}
    if isinstance(error, SpecError):
        more["problems"] = [_written(entry) for entry in error.problems]
    if isinstance(error, Taken):
        more["problems"] = [_written(Problem(error.message, key=error.key))]
    if isinstance(error, Conflict) and error.rollout is not None:
        more["rollout"] = error.rollout
    if isinstance(error, CapacityError) and error.capacity is not None:
        more["capacity"] = dict(error.capacity)
    return problem(status or error.status, error.code, error.message, exit_code=error.exit_code, **more)


def install(api: FastAPI) -> None:
    """Has every kind of failure answered with a problem."""
    api.add_exception_handler(RotaError, _on_rota_error)
    api.add_exception_handler(RequestValidationError, _on_invalid_request)
    api.add_exception_handler(HTTPException, _on_http_error)
    api.add_exception_handler(ClientDisconnect, _on_gone)
    api.add_exception_handler(UnicodeEncodeError, _on_half_a_character)
    api.add_exception_handler(Exception, _on_unexpected)


async def _on_rota_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RotaError)  # noqa: S101 -- registered for this type alone
    return problem_of(error)


async def _on_http_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 -- registered for this type alone
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem_of(NotFound(f"no such page: {request.url.path}"))
    answer = problem(error.status_code, "request", error.detail)
    answer.headers.update(error.headers or {})
    return answer


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 -- registered for this type alone
    entries = error.errors()
    problems = [_problem(entry) for entry in entries]
    if entries and all(entry["loc"][:3] == ("body", "deploy", "spec") for entry in entries):
        return problem_of(SpecError(problems))
    return problem_of(UsageError("\n".join(found.message for found in problems)))


async def _on_gone(request: Request, error: Exception) -> JSONResponse:
    """Nobody reads this; without it the server above would log a traceback."""
    return problem(400, "request", "the client went away before its request was whole")


async def _on_half_a_character(request: Request, error: Exception) -> JSONResponse:
    """JSON can name half of a pair of surrogates, which is no text that anything could be done with."""
    return problem_of(UsageError("the body has half of a character (a lone surrogate, such as \\ud800)"))


async def _on_unexpected(request: Request, error: Exception) -> JSONResponse:
    """The server above logs the traceback; a client is told no more than that something broke."""
    return problem(500, "unexpected", "the server failed at this request; its log says why")


def _problem(entry: Any) -> Problem:
    key = "" if entry["type"] == "json_invalid" else _key(entry["loc"])
    return Problem(f"{key}: {_message(entry)}" if key else _message(entry), key=key)


_KINDS = frozenset(kind.value for kind in Kind)


def _message(entry: Any) -> str:
    """What a request has and a file has not is said here, the rest as in a file."""
    kind, found, context = entry["type"], entry["input"], entry.get("ctx", {})
    match kind:
        case "json_invalid":
            return f"the body is not JSON: {context['error']}, at character {entry['loc'][-1]}"
        case "missing":
            return "it is missing" if _key(entry["loc"]) else "a body of JSON is expected"
        case "extra_forbidden":
            return "there is no such key"
        case "union_tag_invalid" | "union_tag_not_found":
            return f"kind: one of {', '.join(sorted(_KINDS))} is expected"
        case "model_attributes_type" | "model_type" | "dict_type":
            return f"an object of JSON is expected, not {quoted(found)}"
        case "string_pattern_mismatch":
            return f"{quoted(found)} has not the form that it is to have ({context['pattern']})"
        case _:
            return in_words(kind, found, context) or str(entry["msg"])


def _key(location: Iterable[object]) -> str:
    """``policy.delay`` for ("body", "restart", "policy", "delay"): the place in the body without the order's kind, or
    in the file."""
    parts = [str(part) for part in location]
    if parts[:3] == ["body", "deploy", "spec"]:
        parts = parts[3:]
    elif parts[:1] == ["body"]:
        parts = parts[2:] if parts[1:2] and parts[1] in _KINDS else parts[1:]
    elif parts and parts[0] in _PLACES:
        parts = parts[1:]
    return ".".join(part for part in parts if not part.startswith(("function-", "tagged-union")))


def _written(entry: Problem) -> dict[str, object]:
    return {
        "message": entry.message,
        "line": entry.line,
        "column": entry.column,
        "file": entry.file,
        "key": entry.key,
    }
