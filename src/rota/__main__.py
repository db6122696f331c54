"""The entry point of the command ``rota``: answers --version at once and hands everything else to the part it is
for; above the daemon and the command line, which know nothing of each other."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import rota

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rota.core.diagnosis import Finding


INTERRUPTED = 130


def main() -> int:
    try:
        return _run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules are loaded, or before the daemon hears signals
        return INTERRUPTED


def _run(argv: list[str]) -> int:
    if argv[:1] in (["--version"], ["-V"]):
        sys.stdout.write(f"rota {rota.__version__}\n")
        return 0
    if argv[:1] == ["keeper"]:
        from rota import keeper

        return keeper.main(argv[1:])
    if argv[:1] == ["nameserver"]:
        from rota import nameserver

        return nameserver.main(argv[1:])
    if argv[:1] == ["serve"]:
        return _serve(argv[1:])
    from rota.cli import application

    return application.main(argv, serve=_serve, examine=_examine)


def _serve(argv: list[str]) -> int:
    from rota import daemon

    return daemon.main(argv)


def _examine(data_dir: Path) -> Sequence[Finding]:
    from rota import doctor

    return doctor.examine(data_dir)


if __name__ == "__main__":
    sys.exit(main())
