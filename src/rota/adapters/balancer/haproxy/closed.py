"""The backends of haproxy.cfg that answer for apps in maintenance: pure, written by config.py. To close an app is to
route it there (maps.py), which needs no reload and leaves its own backends alone."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.pages import HTML, page_file, page_id, page_in_force, pages_of
from rota.adapters.balancer.haproxy.state import App, State

CLOSED = "_maintenance"
"""No app's name begins so, hence what is answered here is in no receipt."""

_STATUS = 503
_FIELDS = "hdr Retry-After 120 hdr Cache-Control no-store"
_PAGE = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>Back soon</title>"
    "<h1>Back soon</h1><p>This site is in maintenance. Please try again in a few minutes.</p></html>"
)


def closed_sections(state: State) -> list[str]:
    own = {_name(text): page_file(text) for app in state.apps.values() for text in pages_of(app, _STATUS).values()}
    plain = _section(CLOSED, f"string '{_PAGE}'")
    return [plain, *(_section(name, f"file {path}") for name, path in sorted(own.items()))]


def closed_backend(app: App) -> str:
    """The one with the page of the app's own, if it has one where its users are led."""
    page = page_in_force(app, _STATUS)
    return CLOSED if page is None else _name(page)


def _name(page: str) -> str:
    return f"{CLOSED}.{page_id(page)}"


def _section(name: str, body: str) -> str:
    return f"backend {name}\n  http-request return status {_STATUS} content-type {HTML} {body} {_FIELDS}"
