"""Detect by kernel counters that other work on the machine makes several torch threads slower than one.

Threads of a process wait for each other at each step of a computation. If others take a core away in the middle, all
wait: the kernel counts many involuntary context switches, and CPU time falls behind the clock. A single thread is
slowed less (docs/benchmarks.md, Threads).
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

IN_A_ROW = 3  # busy iterations
# Beside a busy neighbour two threads were preempted 500 to 900 times per CPU second, at 1.0 CPU seconds per second or
# fewer; with two free cores 20 to 170 times, at 1.7 to 2.0.
PREEMPTIONS = 250.0  # per CPU second
CPU_PER_CLOCK = 1.1  # slightly more than one thread can reach
SHORT = 0.5  # shorter iterations are ignored


@dataclass(frozen=True)
class Usage:
    """Resources that this process has used so far."""

    clock: float  # seconds
    cpu: float  # seconds, over all threads
    preemptions: int  # involuntary context switches, over all threads

    @classmethod
    def now(cls) -> Usage:
        """Measure this process, without its children."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.monotonic(), used.ru_utime + used.ru_stime, used.ru_nivcsw)


def is_busy(before: Usage, after: Usage, threads: int) -> bool:
    """Return whether ``threads`` threads got too little of the machine between two measurements to be worthwhile."""
    clock, cpu = after.clock - before.clock, after.cpu - before.cpu
    if threads < 2 or clock < SHORT or cpu <= 0.0:
        return False
    return cpu / clock < CPU_PER_CLOCK and (after.preemptions - before.preemptions) / cpu > PREEMPTIONS


class BusyWatch:
    """Checks once per iteration, and warns at most once."""

    def __init__(self, threads: int, usage: Usage) -> None:
        """``threads``: torch's in this process; a single thread never triggers it."""
        self._threads, self._last = threads, usage
        self._row = 0
        self._said = False

    def look(self, usage: Usage) -> str | None:
        """Return a warning after an iteration, or None."""
        busy, self._last = is_busy(self._last, usage, self._threads), usage
        self._row = self._row + 1 if busy else 0
        if self._said or self._row < IN_A_ROW:
            return None
        self._said = True
        return (
            f"this machine is busy with other work, and {self._threads} threads wait for each other: `threads: 1` "
            "would be faster (params.yaml or the profile; it rounds differently, so training starts over)"
        )
