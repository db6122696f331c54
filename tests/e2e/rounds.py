"""How often each cell of a matrix is run, and the ledger of what has been: a matrix of many hours goes on where it
stopped. Used by test_matrix."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.e2e.scenario import FULL, InvalidLoad

GIVEN = os.environ.get("ROTA_ROUNDS")
"""So many rounds of every cell, for who has no night to spend on them."""
LEDGER = os.environ.get("ROTA_LEDGER")
"""A file with a line for each round that held: such a round is not done again."""
INVALID = 3
"""So many loads may show nothing, of a cell's in one run."""


def rounds(full: int) -> int:
    """Of a cell that has so many in the long form."""
    return int(GIVEN) if GIVEN else full if FULL else 1


async def each_round(cell: str, wanted: int, attempt: Callable[[int], Awaitable[None]]) -> None:
    """Runs a cell until it has held so often. ``attempt`` gets a number that no other attempt of this run has; one
    whose load was invalid shows nothing and is made again.

    Raises what the attempt raises, and InvalidLoad if too many are."""
    held, made, invalid = _held(cell), 0, 0
    while held < wanted:
        try:
            await attempt(made)
        except InvalidLoad:
            invalid += 1
            if invalid == INVALID:
                raise
        else:
            held += 1
            _write(cell)
        made += 1


def _held(cell: str) -> int:
    if LEDGER is None or not Path(LEDGER).exists():
        return 0
    return sum(line.split()[0] == cell for line in Path(LEDGER).read_text().splitlines())


def _write(cell: str) -> None:
    """With the commit, by which a reader knows what code held."""
    if LEDGER is None:
        return
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    with Path(LEDGER).open("a") as ledger:
        ledger.write(f"{cell} {commit.strip()}\n")
