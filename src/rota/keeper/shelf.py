"""The directory with one durable file a child: read at the start, written at each change by the children."""

import json
import os
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path

from .record import Record, State
from .shape import CHECKS, MalformedError


class Shelf:
    """The directory with one file a child, each written whole or not at all."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory

    def load(self) -> tuple[list[Record], list[str]]:
        """All records, and a complaint for each file that holds none and was moved aside."""
        records, complaints = [], []
        for path in sorted(self._directory.glob("[a-z0-9]*.json")):
            try:
                records.append(_parse(path))
            except (ValueError, RecursionError) as error:
                aside = path.with_suffix(".corrupt")
                path.rename(aside)
                complaints.append(f"{path} is no record ({error}); moved to {aside.name}")
        return records, complaints

    def write(self, record: Record, *, sync: bool = True) -> None:
        """Replace its file or raise OSError, the old one being whole then.

        Durable when it returns; without `sync` it outlives this process only, at a tenth of the time.
        """
        replace_file(self._directory / f"{record.name}.json", json.dumps(asdict(record)), sync=sync)

    def remove(self, name: str) -> None:
        """The file is gone, durably; nothing happens when there is none."""
        (self._directory / f"{name}.json").unlink(missing_ok=True)
        _sync(self._directory)


def replace_file(path: Path, text: str, *, sync: bool = True) -> None:
    """Temporary file, fsync, rename, fsync of the directory; raises OSError."""
    temporary = path.with_name(f".{path.name}.new")
    try:
        with open(temporary, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.write(text)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if sync:
        _sync(path.parent)


def _parse(path: Path) -> Record:
    content = json.loads(path.read_bytes())
    if not isinstance(content, dict) or content.get("name") != path.stem:
        raise MalformedError("not the record of this name")
    known = {one.name for one in fields(Record)}
    # A later version's further keys are let go, not taken for damage.
    values = {key: value for key, value in content.items() if key in known}
    if bad := [key for key, value in values.items() if not CHECKS[key](value)]:
        raise MalformedError(f"bad value for {bad[0]!r}")
    if missing := sorted({"name", "argv", "state"} - set(values)):
        raise MalformedError(f"no {missing[0]!r}")
    return Record(**{**values, "state": State(values["state"])})


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
