"""How far a large index is, step by step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TextIO

from r1_searcher.progress import Paced


class IndexProgress:
    """Counts what is done in each step of a long command; silent where it is soon over. ``close`` it in any case."""

    def __init__(
        self,
        total: int | None,
        what: str = "passages",
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``total``: how many there are to do in the first step; None: not known."""
        self._out, self._clock = out, clock
        self._ends = contextlib.ExitStack()
        self.step(what, total)

    def step(self, what: str, total: int | None) -> None:
        """Begin the next step."""
        self.close()
        self._total, self._done, self._began = total or 0, 0, self._clock()
        self._paced = self._ends.enter_context(Paced("index", unit=what, out=self._out, clock=self._clock))

    def add(self, number: int) -> None:
        """So many more are done."""
        self._done += number
        seconds = max(self._clock() - self._began, 1e-9)
        self._paced.told(self._done, self._total, f"{self._done / seconds:,.0f} a second")

    def close(self) -> None:
        """End the step, and its bar if there is one."""
        self._ends.close()
