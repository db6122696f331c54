"""Whether a program is in a container, of what an engine answers about its files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from rota.adapters.runtime.docker import program
from rota.adapters.runtime.docker.client import Refused
from rota.core.errors import StartFailed

CONFIG = {"Cmd": ["serve"], "Env": ["PATH=/one:/two:/three"], "WorkingDir": "/app"}


class Files:
    """Those of a container: which paths are there (True), and which the engine cannot look at (None)."""

    def __init__(self, **there: bool | None) -> None:
        self._there = {f"/{place}/serve": answer for place, answer in there.items()}

    async def head(self, path: str, params: Mapping[str, Any]) -> bool:
        answer = self._there.get(params["path"], False)
        if answer is None:
            raise Refused(500, "the engine answers 500")
        return answer


async def checked(files: Files) -> bool:
    return await program.check(files, "1", CONFIG)


async def test_a_program_is_looked_for_in_its_path() -> None:
    assert await checked(Files(three=True))
    with pytest.raises(StartFailed, match=r"cannot start 'serve': no such program in PATH \(/one:/two:/three\)"):
        await checked(Files(four=True))


async def test_a_place_that_the_engine_cannot_look_at_is_not_taken_for_empty() -> None:
    assert await checked(Files(one=None, two=True))
    assert not await checked(Files(one=None))
    assert not await checked(Files(one=None, two=None, three=None))
