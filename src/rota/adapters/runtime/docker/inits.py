"""Whether what a container runs is an init already, so that it needs no second one; asked when it is created; pure."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

_INITS = frozenset(
    {
        "catatonit",
        "docker-init",
        "dumb-init",
        "init",  # s6-overlay's /init, and where distributions keep theirs
        "my_init",
        "runit-init",
        "runsvdir",
        "s6-svscan",
        "systemd",
        "tini",
        "tini-static",
    }
)


def is_init(words: Sequence[str]) -> bool:
    """``words`` are what is executed as process 1, and its arguments. What a script executes in the end cannot be seen;
    most inits put up with another one above them."""
    return bool(words) and posixpath.basename(words[0]) in _INITS
