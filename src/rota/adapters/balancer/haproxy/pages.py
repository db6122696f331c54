"""The pages of apps' own and of the server that HAProxy answers with, as files beside haproxy.cfg named by what they
hold: pure; written by disk.py, named by all that answer with one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import App, State
from rota.core.backend import Backend
from rota.core.pages import NOT_FOUND

DIRECTORY = "pages"
HTML = '"text/html; charset=utf-8"'


def page_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def page_file(text: str) -> str:
    """Relative to HAProxy's directory."""
    return f"{DIRECTORY}/{page_id(text)}.html"


def page_files(state: State, settings: Settings) -> Mapping[str, str]:
    """Every page by its file."""
    texts = [text for app in state.apps.values() for pool in app.pools.values() for _, text in pool.backend.pages]
    own = [settings.not_found_page] if settings.not_found_page is not None else []
    return {page_file(text): text for text in (*texts, *own)}


def pages_of(app: App, status: int) -> Mapping[str, str]:
    """The app's pages for a status, by pool."""
    pages = {name: dict(pool.backend.pages).get(status) for name, pool in app.pools.items()}
    return {name: text for name, text in pages.items() if text is not None}


def page_in_force(app: App, status: int) -> str | None:
    """That of the pool that most of its users are led to, of those that have one."""
    pages = pages_of(app, status)
    led = sorted((share, name) for name, share in app.shares.items() if name in pages)
    return pages[led[-1][1]] if led else None


def page_lines(backend: Backend) -> list[str]:
    """Of what goes wrong in the backend; a path that no app has does not come to one."""
    pages = [(int(status), page_file(text)) for status, text in backend.pages if status != NOT_FOUND]
    return [f"  http-error status {status} content-type {HTML} file {path}" for status, path in pages]
