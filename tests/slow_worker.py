"""A worker that writes its identity to a file, and then works for as long as requested."""

from __future__ import annotations

import os
import time
from pathlib import Path


class SlowWorker:
    """Its file, ``working``, is in the project's folder."""

    def __init__(self, settings: object) -> None:
        self.file = Path("working")

    def work(self, seconds: float) -> None:
        """Write the file first, whole at once."""
        part = self.file.with_suffix(".part")
        part.write_text(str(os.getpid()))
        part.rename(self.file)
        time.sleep(seconds)
