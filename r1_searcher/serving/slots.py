"""How many questions are answered together, and how many may wait for it."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator

_LONGEST_ADVICE = 60  # seconds of a Retry-After


class Busy(Exception):
    """Too many questions wait. ``after``: whole seconds after which another attempt is worthwhile."""

    def __init__(self, after: int) -> None:
        super().__init__(f"too many questions wait; try again in {after} s")
        self.after = after


class Slots:
    """``running`` questions at once and ``waiting`` in the queue; whoever comes beyond gets ``Busy``."""

    def __init__(self, *, running: int, waiting: int) -> None:
        self._free = asyncio.Semaphore(running)
        self._most_running, self._most_waiting = running, waiting
        self.running = self.waiting = 0
        self._seconds = 1.0  # of a recent answer

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Hold a slot, first come first served. Raises ``Busy``."""
        if self._free.locked() and self.waiting >= self._most_waiting:
            rounds = (self.waiting + 1) / self._most_running
            raise Busy(min(_LONGEST_ADVICE, max(1, math.ceil(rounds * self._seconds))))
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        began = time.monotonic()
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - began)
