"""Roots of images, packed from files of this Debian machine: nothing can be pulled where tests run."""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rota.core.errors import Missing

_PYTHON = ("python3.11-minimal", "libpython3.11-stdlib")
_LEFT_OUT = re.compile(
    r"/usr/share/|/etc/|/var/|/usr/lib/python3\.11/(?:idlelib|lib2to3|pydoc_data|unittest|ensurepip)/"
)
_FOR_INSTALLATION = {"debconf", "dpkg", "install-info", "media-types", "mailcap", "readline-common"}
_NGINX = ("nginx", "libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g")
_MERGED = re.compile(r"^/(?:bin|sbin|lib|lib64)(?=/)")
_APPLETS = (
    "sh",
    "sleep",
    "cat",
    "echo",
    "true",
    "false",
    "nc",
    "httpd",
    "ls",
    "id",
    "init",
    "dd",
    "touch",
    "kill",
    "tail",
    "tr",
)
_GROUPS = "root:x:0:\napp:x:1000:\n"
_USERS = "root:x:0:0:root:/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n"


@functools.cache
def busybox() -> Path:
    """Static busybox: a shell and the usual commands. Raises Missing."""
    program = shutil.which("busybox")
    if program is None:
        raise Missing("busybox is missing (apt-get install busybox-static)")

    def fill(tar: tarfile.TarFile) -> None:
        _directories(tar, "bin", "etc")
        tar.add(os.path.realpath(program), "bin/busybox")
        for applet in _APPLETS:
            _link(tar, f"bin/{applet}", "busybox")

    return _packed("busybox", fill)


@functools.cache
def python_app(app: Path) -> Path:
    """Debian's Python with a directory's files in ``/app``. Raises Missing."""

    def fill(tar: tarfile.TarFile) -> None:
        _system(tar, _with_dependencies(_PYTHON))
        _link(tar, "usr/bin/python3", "python3.11")
        for entry in sorted(app.iterdir()):
            tar.add(entry, f"app/{entry.name}")

    return _packed(f"python-{app.name}", fill)


@functools.cache
def nginx(config: str) -> Path:
    """Debian's nginx with this as its nginx.conf. Raises Missing."""

    def fill(tar: tarfile.TarFile) -> None:
        _system(tar, _NGINX)
        _directories(tar, "etc/nginx")
        _file(tar, "etc/nginx/nginx.conf", config)
        _file(tar, "etc/group", _GROUPS)

    return _packed("nginx", fill)


@functools.cache
def _run_directory() -> tempfile.TemporaryDirectory[str]:
    """Removed when the interpreter ends."""
    return tempfile.TemporaryDirectory(prefix="rota-images-")


def _packed(name: str, fill: Callable[[tarfile.TarFile], None]) -> Path:
    path = Path(_run_directory().name, f"{name}.tar")
    with tarfile.open(path, "w") as tar:
        fill(tar)
        _directories(tar, "dev", "proc", "sys")
        scratch = tarfile.TarInfo("tmp")
        scratch.type, scratch.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(scratch)
        _file(tar, "etc/passwd", _USERS)
    return path


def _system(tar: tarfile.TarFile, packages: Sequence[str]) -> None:
    """The files of these packages, in merged trees."""
    _directories(tar, "usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc")
    for name in ("bin", "sbin", "lib", "lib64"):
        _link(tar, name, f"usr/{name}")
    for file in _files(packages):
        tar.add(file, _MERGED.sub(r"/usr\g<0>", file).lstrip("/"), recursive=False)


def _with_dependencies(packages: Sequence[str]) -> tuple[str, ...]:
    """The installed packages that these need, themselves first."""
    found = list(packages)
    for package in found:  # grows meanwhile
        for name in _dependencies(package):
            if name not in found and name not in _FOR_INSTALLATION:
                found.append(name)
    return tuple(found)


def _dependencies(package: str) -> Iterator[str]:
    """The first of each set of alternatives, that being what Debian installs."""
    for needed in _dpkg("dpkg-query", "-W", "-f", "${Depends}, ${Pre-Depends}", package).split(","):
        name = needed.split("|")[0].split("(")[0].strip().partition(":")[0]
        if name:
            yield name


def _files(packages: Sequence[str]) -> Iterator[str]:
    for package in packages:
        for line in _dpkg("dpkg", "-L", package).splitlines():
            top = line.count("/") == 1  # /lib itself, a link where the trees are merged
            if not top and not _LEFT_OUT.match(line) and (os.path.islink(line) or os.path.isfile(line)):
                yield line


def _dpkg(*argv: str) -> str:
    try:
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise Missing(f"an image of Python is made from Debian's packages, and {' '.join(argv)} failed") from error


def _directories(tar: tarfile.TarFile, *names: str) -> None:
    for name in names:
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)


def _file(tar: tarfile.TarFile, name: str, text: str) -> None:
    file = tarfile.TarInfo(name)
    file.size, file.mode = len(text.encode()), 0o644
    tar.addfile(file, io.BytesIO(text.encode()))


def _link(tar: tarfile.TarFile, name: str, target: str) -> None:
    link = tarfile.TarInfo(name)
    link.type, link.linkname = tarfile.SYMTYPE, target
    tar.addfile(link)
