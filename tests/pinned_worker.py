"""A worker that reports which cores it may run on."""

from __future__ import annotations

import os
import threading


class PinnedWorker:
    """Asked from a separate thread, like torch's."""

    def __init__(self, settings: object) -> None:
        pass

    def cores(self) -> set[int]:
        """In the operating system's numbers."""
        found: list[set[int]] = []
        thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
        return found[0]
