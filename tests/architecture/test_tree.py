"""What must never be committed: a machine's paths, a package index's address, a tool's second lock file."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = {"uv.lock", "package-lock.json", "poetry.lock", "Pipfile.lock"}
# Put together here so that this file does not hold what it looks for.
MACHINE = re.compile("|".join(f"/{place}/" for place in ("work", "tmp/wt", "root/\\.pyenv", "opt/pypi")))


def committed() -> list[Path]:
    if not (ROOT / ".git").exists():
        return [path for path in ROOT.rglob("*") if path.is_file() and not {".venv", "dist"} & set(path.parts)]
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def texts() -> list[tuple[Path, str]]:
    read = []
    for path in committed():
        try:
            read.append((path.relative_to(ROOT), path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return read


def test_there_is_one_lock_file() -> None:
    names = {path.name for path in committed()}
    assert "requirements.lock" in names
    assert names & FOREIGN == set()


def test_the_lock_file_names_no_index_and_hashes_everything() -> None:
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in lock
    assert not re.search(r"^\s*--?(i\b|index|extra-index|find-links|f\b|trusted-host)", lock, re.MULTILINE)
    requirements = re.findall(r"^[A-Za-z0-9].*(?:\n\s+.*)*", lock, re.MULTILINE)
    assert len(requirements) > 20
    assert [entry for entry in requirements if "--hash=sha256:" not in entry] == []


def test_nothing_names_a_path_of_one_machine() -> None:
    assert [str(path) for path, text in texts() if MACHINE.search(text)] == []


@pytest.mark.parametrize("name", ["bin/setup", "bin/test", "bin/demo", ".ci/run"])
def test_the_entry_points_can_be_run(name: str) -> None:
    path = ROOT / name
    assert path.stat().st_mode & 0o111
    assert path.read_text(encoding="utf-8").startswith("#!/usr/bin/env bash\n")
