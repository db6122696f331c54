"""Who has which site, and the addresses that an app is reached at; asked by the engine's face."""

from __future__ import annotations

from collections.abc import Mapping

from rota.core.spec import AppSpec
from rota.core.state import AppState
from rota.engine.reconciler import Reconciler


def owners(apps: Mapping[str, Reconciler], but: str) -> dict[str, str]:
    """The app of every site's key, of all apps but one; a rollout's new sites are taken as its old ones are."""
    found: dict[str, str] = {}
    for name, app in apps.items():
        for release in app.state.releases.values():
            if name != but and release.number in {app.state.desired.current.release, _target(app.state)}:
                found |= {site.key: name for site in release.spec.sites}
    return found


def urls_of(spec: AppSpec, http: str) -> list[str]:
    """``http`` is where HAProxy listens."""
    port = http.rpartition(":")[2]
    at = "" if port == "80" else f":{port}"
    return [f"http://{site.host}{at}{site.path}" for site in spec.sites if not (site.wild or site.leads_to)]


def _target(state: AppState) -> int:
    rollout = state.recorded.running_rollout
    return rollout.target.release if rollout is not None and rollout.target is not None else 0
