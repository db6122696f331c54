"""A Linux kernel of a test's own, in user mode, on this machine's files: for what the machine's own kernel has set up
otherwise, as control groups of version 2 are where those of version 1 hold the controllers. Used by tests; blocks."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

MODULES = Path("/usr/lib/uml/modules")
_WANTED = ("bridge", "veth", "overlay")  # what a Docker engine needs
_ENDED = "rota-test: ended with "
_INIT = """#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
export LANG=C.UTF-8 PYTHONDONTWRITEBYTECODE=1
mount -t proc proc /proc
mount -t sysfs sys /sys
{modules}
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
cd {place}
echo "controllers: $(cat /sys/fs/cgroup/cgroup.controllers)"
{command}
echo "{ended}$?"
echo o > /proc/sysrq-trigger
while :; do sleep 1; done
"""


def run(kernel: Path, command: Sequence[str], place: Path, *, memory: str = "1500M", timeout: float) -> tuple[int, str]:
    """A command in ``place``, as root; its exit code and all that it and the kernel have written. Files can be written
    in /tmp and /run alone, which are the kernel's own. Raises TimeoutError with what was written until then."""
    with tempfile.TemporaryDirectory(prefix="rota-") as directory:
        init, said = Path(directory, "init"), Path(directory, "said")
        loaded = "\n".join(f"busybox insmod {module}" for module in _modules())
        init.write_text(
            _INIT.format(modules=loaded, place=shlex.quote(str(place)), command=shlex.join(command), ended=_ENDED)
        )
        init.chmod(0o755)
        options = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet", "con=null", "ssl=null"]
        argv = [str(kernel), f"mem={memory}", *options, "con0=null,fd:1", f"init={init}"]
        with said.open("wb") as written:
            booted = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=written, stderr=written, start_new_session=True
            )
        try:
            booted.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(said.read_text(errors="replace")[-4000:]) from None
        finally:
            if booted.poll() is None:
                os.killpg(booted.pid, signal.SIGKILL)
                booted.wait()
        text = said.read_text(errors="replace")
    _, found, code = text.rpartition(_ENDED)
    return int(code.split()[0]) if found else -1, text


def _modules() -> Iterator[Path]:
    """In the order in which they can be loaded: ``modules.dep`` has a module's own needs last."""
    for tree in sorted(MODULES.iterdir()):
        for line in (tree / "modules.dep").read_text().splitlines():
            module, _, needs = line.partition(":")
            if Path(module).stem in _WANTED:
                yield from (tree / one for one in [*reversed(needs.split()), module])
