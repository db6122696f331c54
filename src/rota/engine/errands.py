"""Commands that a person has run in a replica: which replica, and what came of it; asked by the engine."""

from __future__ import annotations

from rota.core.errand import MOST_OUTPUT, Errand
from rota.core.errors import NotFound
from rota.core.names import ReplicaId
from rota.engine.reconciler import Reconciler
from rota.engine.views import View
from rota.ports.exec import Exec


class Errands:
    def __init__(self, exec: Exec) -> None:
        self._exec = exec

    async def run(self, app: Reconciler, errand: Errand) -> View:
        """Raises NotFound for a replica that the app has not, StepFailed for one that does not run."""
        replica = _chosen(app, errand.replica)
        ran = await self._exec.run(replica, errand.command, errand.timeout, MOST_OUTPUT)
        return {
            "app": app.state.name,
            "replica": replica,
            "exit_code": ran.code,
            "timed_out": ran.code is None,
            "output": ran.output,
            "cut": ran.cut,
        }


def _chosen(app: Reconciler, wanted: str | None) -> ReplicaId:
    """The one that is named, else one in rotation, else any."""
    known = app.state.recorded.replicas
    if wanted is not None:
        if wanted not in known:
            raise NotFound(f"{app.state.name} has no replica {wanted!r}; rota ps {app.state.name} lists them")
        return ReplicaId(wanted)
    serving = app.observation.balancer.servers if app.observation is not None else {}
    in_rotation = [name for name in known if (server := serving.get(ReplicaId(name))) is not None and server.up]
    if not known:
        raise NotFound(f"{app.state.name} has no replicas")
    return ReplicaId((in_rotation or list(known))[0])
