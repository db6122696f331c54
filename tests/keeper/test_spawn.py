"""The birth of a process, where somebody interferes."""

import os
import signal

from rota.keeper.record import Record
from rota.keeper.spawn import Newborn


def test_a_newborn_that_is_killed_before_its_program_runs_has_ended_and_nothing_else() -> None:
    """As the kernel may do for want of memory; its end is then seen as any other's."""
    newborn = Newborn(Record("one", ["/bin/true"]), {}, frozenset())
    os.kill(newborn.pid, signal.SIGKILL)
    os.waitid(os.P_PID, newborn.pid, os.WEXITED | os.WNOWAIT)
    newborn.go()
    assert os.waitstatus_to_exitcode(os.waitpid(newborn.pid, 0)[1]) == -signal.SIGKILL
    os.close(newborn.pidfd)
