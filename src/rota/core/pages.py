"""Pages that HAProxy answers in an app's name: ``error_pages:`` in rota.yaml; read by spec and backend, filled by the
command line with what the files hold, so that they travel with the order and stay with the release."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator, Field, field_validator

from rota.core.model import Model, misplaced
from rota.core.quantities import quoted

NOT_FOUND = 404
Status = Literal[404, 502, 503, 504]
MAX_PAGE = 12_000
"""Bytes: HAProxy answers with one buffer of 16 KiB, which the head of the answer is in as well."""


class ErrorPage(Model):
    """``text`` None: what ``file`` holds has not been read yet."""

    status: Status
    file: str
    text: str | None = None

    @field_validator("text")
    @classmethod
    def _a_page(cls, value: str | None) -> str | None:
        return None if value is None else page_text(value.encode(errors="surrogatepass"))


def page_text(content: bytes) -> str:
    """Raises ValueError with the reason for what is no page."""
    if not 0 < len(content) <= MAX_PAGE:
        raise ValueError(f"it has {len(content):,} bytes; 1 to {MAX_PAGE:,} fit into HAProxy's buffer")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    if "\0" in text:
        raise ValueError("it holds a NUL byte")
    return text


def _pages(value: object) -> object:
    """In the file: a section of statuses and files."""
    if not isinstance(value, Mapping):
        return value
    return tuple(_page(str(status), file) for status, file in value.items())


def _page(status: str, file: object) -> ErrorPage:
    known = {str(one): one for one in get_args(Status)}
    if status not in known:
        raise misplaced(f"HAProxy itself answers with {', '.join(known)} alone, not {quoted(status)}", [status])
    path = PurePosixPath(file) if isinstance(file, str) else None
    if path is None or not path.name or path.is_absolute() or ".." in path.parts or "\0" in str(path):
        raise misplaced(f"a file below this one's directory is expected, not {quoted(file)}", [status])
    return ErrorPage(status=known[status], file=str(path))


def seen(pages: tuple[ErrorPage, ...], *, below: bool) -> tuple[ErrorPage, ...]:
    """Raises for a page that nobody could ever see; ``below``: some domain is the app's below a path alone."""
    if any(page.status == NOT_FOUND for page in pages) and not below:
        why = "it is for paths that no app has, and no domain here has a path: this app answers all of them itself"
        raise misplaced(why, [str(NOT_FOUND)])
    return pages


ErrorPages = Annotated[tuple[ErrorPage, ...], BeforeValidator(_pages), Field(max_length=len(get_args(Status)))]
