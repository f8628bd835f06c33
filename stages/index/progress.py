"""How far a large index is: a bar on a terminal, else a line from time to time."""

from __future__ import annotations

import sys
import time
from typing import Any, TextIO

from stages.contract.shown import show

SECONDS_A_LINE = 10.0


class Progress:
    """Counts what is done in each step of a long command; silent where it is soon over."""

    def __init__(self, total: int | None, what: str = "passages", out: TextIO | None = None) -> None:
        """``total``: how many there are to do in the first step; None: not known."""
        self._out = sys.stderr if out is None else out
        self._bar: Any = None
        self.step(what, total)

    def step(self, what: str, total: int | None) -> None:
        """Begin the next step."""
        self.close()
        self._what, self._total, self._done = what, total, 0
        self._began = self._said = time.monotonic()

    def add(self, number: int) -> None:
        """So many more are done."""
        self._done += number
        now = time.monotonic()
        if self._out.isatty():
            self._draw(number, now)
        elif now - self._said >= SECONDS_A_LINE:
            self._said = now
            share = "" if not self._total else f", {self._done / self._total:.0%}"
            speed = self._done / (now - self._began)
            show(f"index: {self._done:,} {self._what}, {speed:,.0f} a second{share}", file=self._out)

    def _draw(self, number: int, now: float) -> None:
        if self._bar is not None:
            self._bar.update(number)
        elif now - self._began > 1.0:
            from tqdm import tqdm

            self._bar = tqdm(
                total=self._total, initial=self._done, unit="", desc=f"index: {self._what}", file=self._out
            )

    def close(self) -> None:
        """End the bar, if there is one."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None
