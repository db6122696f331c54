"""What DNS says of the apps, as the API shows it (JSON-ready); pure, called by the engine's face."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rota.core.names import ReplicaId
from rota.core.observation import Observation, ObservedDns, Published
from rota.core.state import AppState, ReplicaRecord

View = dict[str, Any]
INTERNAL_ZONE = "rota.internal"


def dns_view(apps: Iterable[tuple[AppState, Observation | None]]) -> View:
    """``{"views": …, "records": …}``: each app's part of each view, and each replica that one names or has let go."""
    views: list[View] = []
    records: list[View] = []
    for state, observed in apps:
        for name, view in (observed.dns if observed is not None else {}).items():
            views.append(_view(state.name, name, view))
            records += _records(state, name, view)
    return {"views": views, "records": records}


def dns_state(replica: ReplicaId, record: ReplicaRecord, dns: Mapping[str, ObservedDns]) -> str | None:
    """One word for a replica: ``published`` in a view or more, ``withdrawn`` for its hand-off, else ``absent``; None
    without DNS."""
    if not dns:
        return None
    if record.withdraw_began_at is not None:
        return "withdrawn"
    return "published" if any(replica in view.published for view in dns.values()) else "absent"


def _view(app: str, name: str, view: ObservedDns) -> View:
    return {"app": app, "view": name, "ttl": view.ttl, "required": view.required, "trouble": view.trouble or None}


def _records(state: AppState, name: str, view: ObservedDns) -> list[View]:
    shown = [_record(state, name, view, replica, published) for replica, published in sorted(view.published.items())]
    let_go: list[View] = [
        {"app": state.name, "view": name, "replica": replica, "state": "withdrawn", "address": None, "names": []}
        for replica, record in state.recorded.replicas.items()
        if record.withdraw_began_at is not None and replica not in view.published
    ]
    return shown + let_go


def _record(state: AppState, name: str, view: ObservedDns, replica: ReplicaId, published: Published) -> View:
    record = state.recorded.replicas.get(replica)
    leaving = record is None or record.withdraw_began_at is not None
    names = [f"{state.name}.{INTERNAL_ZONE}"] if view.hosts is None else sorted(published.hosts)
    return {
        "app": state.name,
        "view": name,
        "replica": replica,
        "state": "leaving" if leaving else "published" if published.sure else "unsure",
        "address": str(published.address),
        "names": names,
    }
