"""The pages of apps' own that HAProxy answers with, as files beside haproxy.cfg named by what they hold: pure; written
by disk.py, named by backends.py and closed.py."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from rota.adapters.balancer.haproxy.state import State
from rota.core.backend import Backend

DIRECTORY = "pages"
HTML = '"text/html; charset=utf-8"'


def page_id(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def page_file(text: str) -> str:
    """Relative to HAProxy's directory."""
    return f"{DIRECTORY}/{page_id(text)}.html"


def page_files(state: State) -> Mapping[str, str]:
    """Every page by its file."""
    texts = (text for app in state.apps.values() for pool in app.pools.values() for _, text in pool.backend.pages)
    return {page_file(text): text for text in texts}


def page_lines(backend: Backend) -> list[str]:
    pages = [(int(status), page_file(text)) for status, text in backend.pages]
    return [f"  http-error status {status} content-type {HTML} file {path}" for status, path in pages]
