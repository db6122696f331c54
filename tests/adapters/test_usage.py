"""Use and size as the files tell them: control groups of either version, /proc, a container's own limits."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rota.adapters import cgroupfiles, usage
from rota.adapters.machine import LocalMachine
from rota.adapters.usage import Used

MIB = 2**20
V1_STAT = "cache 500\ninactive_file 1\ntotal_cache 500\ntotal_inactive_file 300\n"
V1 = {"memory/memory.usage_in_bytes": "1000", "memory/memory.stat": V1_STAT} | {
    "cpu/cpu.stat": "nr_periods 0\nnr_throttled 0\nthrottled_time 0\n",
    "cpuacct/cpuacct.usage": "2500000000\n",
}
V2 = {
    "memory.current": "1000\n",
    "memory.stat": "inactive_file 300\nfile 900\n",
    "cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
}


def written(root: Path, files: dict[str, str]) -> tuple[str, ...]:
    """The directories of these files, which hold these texts."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return tuple(sorted({str((root / name).parent) for name in files}))


@pytest.mark.parametrize("files", [V1, V2])
def test_a_group_tells_memory_without_droppable_cache_and_cpu(tmp_path: Path, files: dict[str, str]) -> None:
    assert usage.used(written(tmp_path, files), tuple) == Used(700, 2.5)


def test_what_the_group_does_not_tell_is_read_of_its_processes(tmp_path: Path) -> None:
    """As in v1 where cpuacct is not mounted: cpu.stat there tells only of throttling."""
    group = written(tmp_path, {name: text for name, text in V1.items() if "cpuacct" not in name})
    found = usage.used(group, lambda: [os.getpid()])
    assert found is not None
    assert found.memory == 700
    assert 0 < found.cpu_seconds <= sum(os.times()[:4]) + 1
    assert usage.used(group, tuple) is None


def test_memory_is_never_below_nothing(tmp_path: Path) -> None:
    group = written(tmp_path, {"memory.current": "100", "memory.stat": "file 1\n"})
    assert usage.memory_of(group) == 100
    written(tmp_path, {"memory.stat": "file 1\ninactive_file 300\n"})
    assert usage.memory_of(group) == 0


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """It has grown to 30 MiB and waited for a child that has worked."""
    work = "import subprocess as s, sys; b = bytearray(30 << 20); s.run([sys.executable, '-c', 'sum(range(3000000))'])"
    script = f"{work}; print('there', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.communicate(b"\n")


def test_without_a_group_processes_are_added_up_with_children_that_have_ended(child: subprocess.Popen[bytes]) -> None:
    found = usage.used((), lambda: [child.pid])
    assert found is not None
    assert 30 * MIB < found.memory < 200 * MIB
    fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
    its_own, of_children = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
    assert of_children > 0
    assert found.cpu_seconds == (its_own + of_children) / os.sysconf("SC_CLK_TCK")
    both = usage.of_processes([child.pid, os.getpid(), 2**30])
    assert both is not None
    assert both.memory > found.memory
    assert usage.of_processes([2**30]) is None


def test_who_shares_a_core_has_waited_for_it() -> None:
    """Three that compute all the time on one core, in a second thread: each has it a third of the time."""
    core = min(os.sched_getaffinity(0))
    work = f"import os, threading; os.sched_setaffinity(0, [{core}])\nwhile True: pass"
    script = f"import threading; t = threading.Thread(target=exec, args=({work!r}, {{}})); t.start(); t.join()"
    children = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(3)]
    try:
        deadline = time.monotonic() + 30
        while min(usage.waited_of([child.pid]) or 0.0 for child in children) < 0.2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        both = usage.waited_of([*(child.pid for child in children), 2**30])
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert both is not None
    assert both >= 0.2
    assert usage.waited_of([2**30]) is None


class TestGroupsOfAProcess:
    def test_in_v2(self, tmp_path: Path) -> None:
        written(tmp_path, {"cgroup.controllers": "cpu memory", "a/b/cgroup.procs": ""})
        of = tmp_path / "of"
        of.write_text("0::/a/b\n")
        assert cgroupfiles.directories(of, tmp_path, tmp_path / "none") == (str(tmp_path / "a/b"),)

    def test_in_v1_each_hierarchy_once(self, tmp_path: Path) -> None:
        for place in ("memory/docker/1", "cpu,cpuacct/docker/1"):
            (tmp_path / place).mkdir(parents=True)
        for name in ("cpu", "cpuacct"):
            (tmp_path / name).symlink_to("cpu,cpuacct")
        of = tmp_path / "of"
        of.write_text("4:memory:/docker/1\n3:pids:/docker/1\n2:cpu,cpuacct:/docker/1\n0::/\n")
        found = cgroupfiles.directories(of, tmp_path, tmp_path / "none")
        assert found == (str(tmp_path / "memory/docker/1"), str(tmp_path / "cpu,cpuacct/docker/1"))

    def test_in_a_container_that_sees_the_host_s_names(self, tmp_path: Path) -> None:
        """The mount shows what is below the container's own group."""
        (tmp_path / "memory/inner").mkdir(parents=True)
        of, own = tmp_path / "of", tmp_path / "own"
        of.write_text("4:memory:/docker/outer/inner\n")
        own.write_text("4:memory:/docker/outer\n")
        assert cgroupfiles.directories(of, tmp_path, own) == (str(tmp_path / "memory/inner"),)

    def test_one_that_has_ended_has_none(self, tmp_path: Path) -> None:
        assert cgroupfiles.directories(tmp_path / "gone", tmp_path) == ()

    def test_this_one_is_where_the_kernel_lists_it(self) -> None:
        for directory in cgroupfiles.directories(Path("/proc/self/cgroup")):
            assert os.getpid() in map(int, Path(directory, "cgroup.procs").read_text().split())


class TestSize:
    CORES = float(len(os.sched_getaffinity(0)))

    @pytest.fixture
    def meminfo(self, tmp_path: Path) -> Path:
        file = tmp_path / "meminfo"
        file.write_text("MemTotal:       4194304 kB\nMemFree:         100 kB\nMemAvailable:    2097152 kB\n")
        return file

    def test_of_a_machine_without_limits(self, tmp_path: Path, meminfo: Path) -> None:
        top = {"memory/memory.limit_in_bytes": "9223372036854771712", "cpu/cpu.cfs_quota_us": "-1"}
        written(tmp_path / "fs", {**top, "cpu/cpu.cfs_period_us": "100000"})
        size = LocalMachine(mount=tmp_path / "fs", meminfo=meminfo).size()
        assert (size.memory, size.cpus) == (4096 * MIB, self.CORES)

    @pytest.mark.parametrize(
        "files",
        [
            {"memory/memory.limit_in_bytes": "1048576000", "cpu/cpu.cfs_quota_us": "50000"},
            {"cgroup.controllers": "", "memory.max": "1048576000", "cpu.max": "50000 100000"},
        ],
    )
    def test_of_a_container(self, tmp_path: Path, meminfo: Path, files: dict[str, str]) -> None:
        written(tmp_path / "fs", files)
        size = LocalMachine(mount=tmp_path / "fs", meminfo=meminfo).size()
        assert (size.memory, size.cpus) == (1000 * MIB, 0.5)

    def test_of_the_groups_above_the_replicas(self, tmp_path: Path, meminfo: Path) -> None:
        """A limit beside them does not count."""
        mount = tmp_path / "fs"
        limits = {"unit/memory.max": "2097152000", "unit/rota/memory.max": "max", "other/memory.max": "1048576"}
        written(mount, {"cgroup.controllers": "", "memory.max": "max", **limits})
        machine = LocalMachine([mount / "unit/rota"], mount=mount, meminfo=meminfo)
        assert machine.size().memory == 2000 * MIB

    def test_what_is_left_is_what_the_kernel_can_give_with_its_file_cache(self, tmp_path: Path, meminfo: Path) -> None:
        assert LocalMachine(mount=tmp_path / "fs", meminfo=meminfo).available() == 2048 * MIB

    @pytest.mark.parametrize(
        "files",
        [
            {
                "memory/memory.limit_in_bytes": str(1000 * MIB),
                "memory/memory.usage_in_bytes": str(900 * MIB),
                "memory/memory.stat": f"cache 1\ntotal_inactive_file {500 * MIB}\n",
            },
            {
                "cgroup.controllers": "",
                "memory.max": str(1000 * MIB),
                "memory.current": str(900 * MIB),
                "memory.stat": f"file 1\ninactive_file {500 * MIB}\n",
            },
        ],
    )
    def test_what_is_left_in_a_container(self, tmp_path: Path, meminfo: Path, files: dict[str, str]) -> None:
        written(tmp_path / "fs", files)
        assert LocalMachine(mount=tmp_path / "fs", meminfo=meminfo).available() == 600 * MIB

    def test_of_this_one(self) -> None:
        size = LocalMachine().size()
        assert 64 * MIB < size.memory <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        assert 0 < size.cpus <= self.CORES
        assert 0 < LocalMachine().available() <= size.memory

    def test_a_machine_that_does_not_say_so(self, tmp_path: Path) -> None:
        (tmp_path / "meminfo").write_text("MemFree: 1 kB\n")
        with pytest.raises(ValueError, match="does not say MemTotal"):
            LocalMachine(mount=tmp_path, meminfo=tmp_path / "meminfo").size()
