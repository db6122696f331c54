"""What the things of one rota server are called in an engine; two servers on one engine never meet."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rota.core.names import ReplicaId

SERVER = "rota.server"  # the label of everything that is ours
_TAG = re.compile(r"(?P<app>[a-z0-9-]+):(?P<release>[0-9]+)", re.ASCII)


@dataclass(frozen=True)
class Names:
    """``server_id`` is the data directory's."""

    server_id: str

    @property
    def network(self) -> str:
        return f"rota-{self._short}"

    @property
    def images(self) -> str:
        """The pattern of all tags."""
        return f"rota-{self._short}/*"

    @property
    def filter(self) -> str:
        """The label that selects what is ours."""
        return f"{SERVER}={self.server_id}"

    def container(self, replica: ReplicaId) -> str:
        return f"{replica}.{self._short}"

    def tag(self, app: str, release: int) -> str:
        """The local tag that pins a release's image, wherever its reference leads later."""
        return f"rota-{self._short}/{app}:{release}"

    def release_of(self, tag: str) -> tuple[str, int] | None:
        """App and release of a tag; None when it is not one of ours."""
        prefix, _, rest = tag.partition("/")
        match = _TAG.fullmatch(rest) if prefix == f"rota-{self._short}" else None
        return (match["app"], int(match["release"])) if match else None

    @property
    def _short(self) -> str:
        return self.server_id[:8]
