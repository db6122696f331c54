"""Who has which site and listens where, and the addresses that an app is reached at; asked by the engine's face."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rota.core.spec import AppSpec
from rota.core.state import AppState
from rota.core.tcp import Listener
from rota.engine.reconciler import Reconciler


def owners(apps: Mapping[str, Reconciler], but: str) -> dict[str, str]:
    """The app of every site's key, of all apps but one; a rollout's new sites are taken as its old ones are."""
    return {site.key: name for name, spec in _in_force(apps, but) for site in spec.sites}


def listeners(apps: Mapping[str, Reconciler], but: str) -> dict[str, list[Listener]]:
    """Where all apps but one listen, or are about to."""
    found: dict[str, list[Listener]] = {}
    for name, spec in _in_force(apps, but):
        found.setdefault(name, []).extend(spec.listeners)
    return found


def urls_of(spec: AppSpec, http: str) -> list[str]:
    """``http`` is where HAProxy listens; TCP services come last."""
    port = http.rpartition(":")[2]
    at = "" if port == "80" else f":{port}"
    sites = (site for site in spec.sites if not (site.wild or site.leads_to))
    return [*(f"http://{site.host}{at}{site.path}" for site in sites), *map(str, spec.listeners)]


def _in_force(apps: Mapping[str, Reconciler], but: str) -> Iterator[tuple[str, AppSpec]]:
    for name, app in apps.items():
        for release in app.state.releases.values():
            if name != but and release.number in {app.state.desired.current.release, _target(app.state)}:
                yield name, release.spec


def _target(state: AppState) -> int:
    rollout = state.recorded.running_rollout
    return rollout.target.release if rollout is not None and rollout.target is not None else 0
