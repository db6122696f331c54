"""What HAProxy answers where no app has the host or the path: pure, written by config.py and frontend.py.

A host that is shared by path may have paths that are nobody's. Of the apps there the one with the shortest path that
has a page for it answers: ``paths.map`` leads its users, as to an app, to a backend that knows nothing but the page."""

from __future__ import annotations

from rota.adapters.balancer.haproxy.pages import HTML, page_file, page_id, page_in_force, pages_of
from rota.adapters.balancer.haproxy.settings import Settings
from rota.adapters.balancer.haproxy.state import App, State
from rota.core.names import app_name
from rota.core.pages import NOT_FOUND

_PREFIX = "_404"
"""No app's name begins so, hence what is answered here is in no receipt; in the access log it is the app's."""

_PLAIN = 'content-type text/plain string "No app has this host name.\\n"'


def not_found_answer(settings: Settings) -> str:
    """What follows ``http-request`` where nobody has a page."""
    page = settings.not_found_page
    body = _PLAIN if page is None else f"content-type {HTML} file {page_file(page)}"
    return f"return status {NOT_FOUND} {body}"


def not_found_sections(state: State) -> list[str]:
    own = {
        _name(app, text): (app.name, page_file(text))
        for app in state.apps.values()
        for text in pages_of(app, NOT_FOUND).values()
    }
    return [_section(name, *answer) for name, answer in sorted(own.items())]


def not_found_backend(app: App) -> str | None:
    page = page_in_force(app, NOT_FOUND)
    return None if page is None else _name(app, page)


def _name(app: App, page: str) -> str:
    return f"{_PREFIX}.{app_name(app.name)}.{page_id(page)}"


def _section(name: str, app: str, path: str) -> str:
    return f"""\
backend {name}
  http-request set-var(txn.app) str({app_name(app)})
  http-request return status {NOT_FOUND} content-type {HTML} file {path}"""
