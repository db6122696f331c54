"""Runs ``rota`` in a process of its own, as a person or a script does."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class RotaCommand:
    environment: dict[str, str]
    directory: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def __call__(self, *argv: str, **environment: str | None) -> Ended:
        """Variables given as None are taken away."""
        merged = self.environment | environment
        process = self.start(*argv, environment={k: v for k, v in merged.items() if v is not None})
        out, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        return Ended(process.returncode, out, err)

    def start(self, *argv: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rota", *argv],
            env=environment or self.environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process
