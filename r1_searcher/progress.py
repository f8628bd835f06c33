"""Progress of long work, by the clock: a bar on a terminal, else a line about every 15 seconds.

A thread watches the clock, so that work that cannot report for minutes (a first batch, a loading model, a busy machine)
is not silent either. It prints only what the work has reported, and touches nothing else. If another process draws
the progress (``progress_events``), it gets events and nothing is printed.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, TextIO

from r1_searcher import progress_events
from r1_searcher.shown import printable, show, terminal_width

SECONDS_A_LINE = 15.0
SECONDS_BEFORE_A_BAR = 1.0
SECONDS_BETWEEN_EVENTS = 0.25

Told = Callable[[int, int], None]  # called with the number done and the total


def nobody(done: int, total: int) -> None:
    """Ignore progress."""


class Paced:
    """Print progress of a block: ``with Paced("evaluation", unit="questions") as paced:``, updated with ``paced.told``.

    Prints nothing if the work ends within ``every`` seconds. Prints lines instead of a bar if the total is unknown or
    the terminal has no size.
    """

    def __init__(
        self,
        what: str,
        *,
        unit: str = "",
        total: int = 0,
        out: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        every: float = SECONDS_A_LINE,
    ) -> None:
        """``total``: 0 if unknown. ``out``: default standard error. ``clock``: in seconds; the thread waits by the real
        one."""
        self._what, self._unit, self._clock, self._every = printable(what), unit, clock, every
        self._out = sys.stderr if out is None else out
        self._drawn = terminal_width(self._out) is not None
        self._done, self._total, self._added = 0, total, 0
        self._note = ""
        self._bar: Any = None
        self._told_elsewhere = False
        self._told_at = float("-inf")
        self._began = self._said = clock()
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)

    def __enter__(self) -> Paced:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.close()
        if self._told_elsewhere:
            progress_events.tell({"kind": "work", "what": self._what, "over": True})

    def told(self, done: int, total: int, note: str = "") -> None:
        """Report progress. ``total``: 0 if unknown. ``note``: anything else to show (the loss)."""
        with self._lock:
            self._done, self._total, self._note = done, total, note
        self.look()

    def add(self, number: int, note: str = "") -> None:
        """Add to the number done. Cheap enough for millions of calls: only the thread prints, and computes the
        speed."""
        self._added += number
        self._note = note or self._note

    def look(self) -> None:
        """Print if it is time to. Any thread may call it."""
        with self._lock:
            now = self._clock()
            self._done = self._added or self._done
            if self._out is sys.stderr and self._tell(now):
                return
            if self._total and self._drawn:
                self._draw(now)
            elif now - self._said >= self._every:
                self._said = now
                show(self._line(now - self._began), file=self._out)

    def _watch(self) -> None:
        often = self._drawn or progress_events.VARIABLE in os.environ
        while not self._over.wait(SECONDS_BEFORE_A_BAR if often else self._every):
            self.look()

    def _tell(self, now: float) -> bool:
        """Send an event, a few per second at most; return whether another process draws."""
        if now - self._told_at < SECONDS_BETWEEN_EVENTS:
            return self._told_elsewhere
        self._told_at = now
        self._told_elsewhere = progress_events.tell(
            {
                "kind": "work",
                "what": self._what,
                "unit": self._unit,
                "done": self._done,
                "total": self._total,
                "note": self._note,
                "seconds": now - self._began,
            }
        )
        return self._told_elsewhere

    def _line(self, seconds: float) -> str:
        count = ""
        if self._total or self._done:
            of = f" of {self._total:,}" if self._total else ""
            count = f" {self._done:,}{of} {self._unit}".rstrip() + ","
        rate = f", {self._added / seconds:,.0f} per second" if self._added else ""
        note = f", {self._note}" if self._note else ""
        return f"{self._what}:{count} {seconds:.0f} s so far{rate}{note}"

    def _draw(self, now: float) -> None:
        fresh = self._bar is None
        if fresh:
            if now - self._began < SECONDS_BEFORE_A_BAR:
                return
            from tqdm import tqdm

            unit = f" {self._unit}"
            self._bar = tqdm(
                total=self._total,
                initial=self._done,
                desc=self._what,
                unit=unit,
                unit_scale=self._total >= 10**6,
                file=self._out,
                leave=False,
            )
        self._bar.total = self._total
        if self._note:
            self._bar.set_postfix_str(self._note, refresh=fresh)
        self._bar.update(self._done - self._bar.n)
