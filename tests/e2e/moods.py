"""An exec health check that behaves as a file in the replica says, for the tests of hello on a real server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

_CODE = """
import os, sys, time
try:
    mood = open(os.environ.get("ROTA_DATA", "/tmp") + "/mood").read()
except OSError:
    mood = ""
if mood == "hangs":
    time.sleep(1000)
while mood == "floods":
    os.write(1, b"y" * 65536)
sys.exit("no database" if mood == "fails" else 0)
"""

CHECK: dict[str, Any] = {
    "type": "exec",
    "command": ["python3", "-c", _CODE],
    "interval": "200ms",
    "fast_interval": "100ms",
    "timeout": "1s",
    "fall": 2,
    "rise": 1,
}


def set_mood(pid: int, mood: str) -> None:
    """``pid`` is the replica's main process, as this machine counts."""
    words = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    directory = dict(word.split("=", 1) for word in words if word).get("ROTA_DATA", "/tmp")  # noqa: S108
    place = Path(f"/proc/{pid}/root{directory}/mood")
    place.write_text(mood)
    os.chmod(place, 0o644)
