"""A scale that found a rollout under way, which goes on with the new count: waited for by itself, as that rollout may
take its time (W6); used by ``rota scale``."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rota.cli import output
from rota.cli.connection import Connection, View, quoted
from rota.cli.outcome import SETTLED
from rota.cli.stream import Patience
from rota.cli.watch import ABSENT
from rota.core.errors import Unreachable

_LOOK_AGAIN = 0.2  # seconds: the last thing that happens may be told by no event


@dataclass(frozen=True)
class Joined:
    """``before`` is the count that the app was to have."""

    app: str
    before: int
    count: int

    def wait(self, connection: Connection, rollout: View) -> View:
        """The rollout as it is once the app has the count, or the rollout is settled. Raises Unreachable when the
        server stays away for long."""
        patience = Patience(lambda: output.tell(ABSENT))
        while True:
            try:
                view = connection.get(f"/api/v1/rollouts/{rollout['id']}")
                if view["phase"] in SETTLED or self._is_reached(connection):
                    return view
                patience.over()
            except Unreachable as error:
                patience.wait(error)
            time.sleep(_LOOK_AGAIN)

    def _is_reached(self, connection: Connection) -> bool:
        """The slots that came are in rotation, those that had to go are gone; the others are the rollout's."""
        replicas = connection.get(f"/api/v1/apps/{quoted(self.app)}/replicas")["replicas"]
        ready = {replica["slot"] for replica in replicas if replica["phase"] == "ready"}
        gone = all(replica["slot"] <= self.count for replica in replicas)
        return gone and ready >= set(range(self.before + 1, self.count + 1))
