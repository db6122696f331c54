"""Where the process runtime keeps what, below the data directory; asked by its other modules."""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import dataclass
from pathlib import Path

from rota.core.errors import StartFailed
from rota.core.names import ReplicaId

_REPLICA = re.compile(r"([a-z0-9][a-z0-9-]*)-([0-9]+)", re.ASCII)


@dataclass(frozen=True)
class Account:
    """The user that an app runs as, where it is not the daemon's own."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True)
class Layout:
    """Names only; nothing is made here but by ``make``."""

    data_dir: Path

    def release(self, app: str, release: int) -> Path:
        """The unpacked source: the replicas' working directory, by convention not written to."""
        return self.data_dir / "releases" / app / str(release)

    def marker(self, app: str, release: int) -> Path:
        """Says durably what became of a release's files; beside the tree, so that no archive can bring one."""
        return self.data_dir / "releases" / app / f"{release}.json"

    def build_log(self, app: str, release: int) -> Path:
        return self.data_dir / "releases" / app / f"{release}.build.log"

    def build_home(self, app: str, release: int) -> Path:
        """HOME and TMPDIR of a build."""
        return self.data_dir / "releases" / app / f"{release}.build"

    def releases(self, app: str) -> Path:
        return self.data_dir / "releases" / app

    def replica_files(self, replica: ReplicaId) -> Path:
        """ROTA_DATA: the replica's own, removed with it; ``tmp`` below is its TMPDIR."""
        return self.data_dir / "data" / replica

    def log(self, replica: ReplicaId) -> Path:
        return self.logs(app_of(replica)) / f"{replica}.log"

    def logs(self, app: str) -> Path:
        return self.data_dir / "logs" / app

    def ports(self) -> Path:
        return self.data_dir / "ports.json"

    def close_to_others(self) -> None:
        """Directories made by an earlier version may be listed by everybody; passing through stays as it is."""
        for directory in (self.data_dir / "data", self.data_dir / "logs", self.data_dir / "releases"):
            if directory.exists():
                directory.chmod(directory.stat().st_mode & 0o711)

    def open_to(self, account: Account | None, *directories: Path) -> None:
        """Lets another user pass through to what is its own below; it can list nothing on the way."""
        if account is not None:
            for directory in (self.data_dir, *directories):
                directory.chmod(directory.stat().st_mode & 0o777 | 0o011)


def app_of(replica: ReplicaId) -> str:
    """The app by its replica's id; empty for what is no id, so that no path is ever made of it."""
    match = _REPLICA.fullmatch(replica)
    return match[1] if match else ""


def make(directory: Path, account: Account | None = None) -> None:
    """A directory (mode 0700), with those above it; the account's own when one is given. Raises OSError, for a link in
    its place too."""
    for missing in (*reversed(directory.parents), directory):
        missing.mkdir(mode=0o700, exist_ok=True)  # parents=True would make those above it by the umask
    if account is not None:
        _give(directory, account)


def _give(directory: Path, account: Account) -> None:
    """Not by its path: an app whose directory the one above is could lead that anywhere."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        os.fchown(descriptor, account.uid, account.gid)
    finally:
        os.close(descriptor)


def account(user: str | None) -> Account | None:
    """The named user, or None for the daemon's own. Raises StartFailed when there is none, or rota may not."""
    if user is None:
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isascii() and user.isdigit() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise StartFailed(f"there is no user {user!r} on this machine; create it, or change user:") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise StartFailed(f"rota does not run as root and cannot start anything as user {user!r}; leave user: out")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
