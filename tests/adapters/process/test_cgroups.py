"""Control groups of either version: where they are made, and what is written to their files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rota.adapters.cgroupfiles import members
from rota.adapters.runtime.process import cgroups
from rota.core.errors import StepFailed
from rota.core.spec import Limits

LIMITS = Limits(memory=64 * 2**20, cpus=1.5)
V1 = {"memory/x/memory.limit_in_bytes": "9223372036854771712\n", "memory/x/memory.usage_in_bytes": "1000\n"} | {
    "cpu/x/cpu.cfs_quota_us": "-1\n",
    "cpu/x/cpu.cfs_period_us": "100000\n",
}
V2 = {"x/memory.max": "max\n", "x/memory.current": "1000\n", "x/cpu.max": "max 100000\n"}


def group(root: Path, files: dict[str, str]) -> tuple[str, ...]:
    """A directory that looks like a group; returns the directories that make it up."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return tuple(sorted({str((root / name).parent) for name in files}))


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text().strip() for path in root.rglob("*") if path.is_file()}


def test_limits_are_written_and_lifted_in_v1(tmp_path: Path) -> None:
    directories = group(tmp_path, V1)
    assert cgroups.apply(directories, LIMITS)
    assert contents(tmp_path)["memory/x/memory.limit_in_bytes"].startswith("67108864")
    assert contents(tmp_path)["cpu/x/cpu.cfs_quota_us"].startswith("150000")


def test_limits_are_written_and_read_back_in_v2(tmp_path: Path) -> None:
    directories = group(tmp_path, V2)
    assert cgroups.apply(directories, LIMITS)
    assert contents(tmp_path)["x/memory.max"].startswith("67108864")
    assert contents(tmp_path)["x/cpu.max"].startswith("150000 100000")


@pytest.mark.parametrize("files", [V1, V2])
def test_no_limits_are_read_as_none_and_foreign_ones_as_they_are(tmp_path: Path, files: dict[str, str]) -> None:
    directories = group(tmp_path, files)
    assert cgroups.limits_in_force(directories, LIMITS) == Limits()
    foreign = {
        "memory.max": "2000",
        "memory.limit_in_bytes": "2000",
        "cpu.max": "7000 14000",
        "cpu.cfs_quota_us": "50000",
    }
    changed = {name: foreign.get(Path(name).name, text) for name, text in files.items()}
    group(tmp_path, changed)
    in_force = cgroups.limits_in_force(directories, LIMITS)
    assert (in_force.memory, in_force.cpus) == (2000, 0.5)


def test_what_the_kernel_rounded_is_read_as_what_was_asked_for(tmp_path: Path) -> None:
    directories = group(tmp_path, V2 | {"x/memory.max": "4997120\n", "x/cpu.max": "33333 100000\n"})
    asked = Limits(memory=5_000_001, cpus=0.3333333)
    assert cgroups.limits_in_force(directories, asked) == asked


def test_the_least_share_of_a_cpu_that_the_kernel_takes(tmp_path: Path) -> None:
    directories = group(tmp_path, V2)
    cgroups.apply(directories, Limits(cpus=0.0001))
    assert contents(tmp_path)["x/cpu.max"].startswith("1000 100000")
    assert cgroups.limits_in_force(directories, Limits(cpus=0.0001)).cpus == 0.0001


def test_less_memory_than_is_in_use_is_refused_before_v2_kills(tmp_path: Path) -> None:
    directories = group(tmp_path, V2 | {"x/memory.current": str(100 * 2**20)})
    with pytest.raises(StepFailed, match="uses 100 MiB of memory and cannot be limited to 64 MiB"):
        cgroups.apply(directories, LIMITS)
    assert contents(tmp_path)["x/memory.max"] == "max"


def test_without_files_nothing_is_enforced_and_the_record_counts(tmp_path: Path) -> None:
    assert not cgroups.apply((), LIMITS)
    assert cgroups.apply((), Limits())
    assert cgroups.limits_in_force((), LIMITS) == LIMITS
    assert not cgroups.apply((str(tmp_path / "gone"),), LIMITS)


async def test_v2_groups_are_made_at_the_top_with_the_controllers_passed_on(tmp_path: Path) -> None:
    for place in (".", "rota-x"):
        (tmp_path / place).mkdir(exist_ok=True)
        (tmp_path / place / "cgroup.subtree_control").write_text("cpu\n")
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    found = cgroups.find(tmp_path, tmp_path / "own", "rota-x")
    assert found.roots == (tmp_path / "rota-x",)
    assert found.create("web-1") == (str(tmp_path / "rota-x/web-1"),)
    # A plain file keeps only what was written last; the kernel would add each.
    assert "+pids" in (tmp_path / "cgroup.subtree_control").read_text()
    assert "+pids" in (tmp_path / "rota-x/cgroup.subtree_control").read_text()
    assert await found.remove([str(tmp_path / "rota-x/web-1")])
    assert not (tmp_path / "rota-x/web-1").exists()


def test_v1_groups_are_made_in_each_hierarchy_or_where_we_are(tmp_path: Path) -> None:
    (tmp_path / "memory").mkdir()
    (tmp_path / "cpu/docker/abc").mkdir(parents=True)
    (tmp_path / "cpu/rota-x").write_text("in the way, as a read-only top would be")
    own = tmp_path / "own"
    own.write_text("4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n0::/\n")
    found = cgroups.find(tmp_path, own, "rota-x")
    assert found.roots == (tmp_path / "memory/rota-x", tmp_path / "cpu/docker/abc/rota-x")
    assert not (tmp_path / "memory/rota-x").exists()


async def test_a_group_that_is_still_in_use_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "_LET_GO", 0.05)
    directories = group(tmp_path, {"x/stays": "a file that a kernel would not leave there"})
    assert not await cgroups.Cgroups((tmp_path,)).remove(directories)
    assert await cgroups.Cgroups((tmp_path,)).remove([str(tmp_path / "not-there")])


def test_the_members_of_groups_below_count(tmp_path: Path) -> None:
    directories = group(tmp_path, {"x/cgroup.procs": "1\n2\n", "x/below/cgroup.procs": "3\n"})
    assert members([directories[0]]) == {1, 2, 3}
    assert members([str(tmp_path / "gone")]) is None
    assert members([]) is None
    assert os.getpid() not in (members([directories[0]]) or ())
