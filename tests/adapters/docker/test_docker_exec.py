"""An engine that is slow or away says nothing of the replica whose check it was to run."""

from __future__ import annotations

import os
import signal

import pytest

from rota.core.errors import StepFailed
from rota.core.names import ReplicaId
from rota.testing.dock import Dock, box_spec


async def test_an_engine_that_does_not_answer_in_time_is_no_failed_check(box: Dock) -> None:
    await box.started(box_spec())
    os.kill(box.engine.pid, signal.SIGSTOP)
    try:
        with pytest.raises(StepFailed, match=r"the Docker engine began nothing in web-1 within 0.3 s"):
            await box.runtime.exec.run(ReplicaId("web-1"), ["true"], 0.3)
    finally:
        os.kill(box.engine.pid, signal.SIGCONT)
    assert (await box.runtime.exec.run(ReplicaId("web-1"), ["true"], 30)).code == 0
