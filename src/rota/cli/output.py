"""What a command writes: answers on stdout, everything about the way there on stderr; used by every command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any


def answer(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def answer_json(view: Any) -> None:
    sys.stdout.write(json.dumps(view, indent=2, ensure_ascii=False) + "\n")


def answer_lines(lines: Iterable[str]) -> None:
    """Each is seen at once, also through a pipe: they may come slowly."""
    for line in lines:
        answer(line)
        sys.stdout.flush()


def tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
