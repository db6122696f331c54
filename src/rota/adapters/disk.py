"""The disk of the data directory; fulfils the Disk port for the composition root."""

from __future__ import annotations

import shutil
from pathlib import Path

from rota.core.errors import StepFailed


class DirectoryDisk:
    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def room(self) -> tuple[int, int]:
        try:
            usage = shutil.disk_usage(self._data_dir)
        except OSError as error:
            raise StepFailed(f"the disk of {self._data_dir} cannot be looked at: {error.strerror}") from error
        return usage.free, usage.total
