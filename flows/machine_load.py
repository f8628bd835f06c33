"""Whether other work on the machine makes several threads of torch slower than one would be; by what the kernel counts.

Threads of one process wait for each other at each step of the mathematics. Where others take a core away in the middle
of one, all of them wait: the kernel then counts many involuntary context switches, and the processor's time falls
behind the clock's. One thread alone is slowed less (docs/benchmarks.md, Threads).
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass

IN_A_ROW = 3  # busy iterations
# Beside a spinning neighbour two threads were preempted 500 to 900 times a CPU second, at 1.0 CPU seconds a second
# or fewer; with two free cores 20 to 170 times, at 1.7 to 2.0.
PREEMPTIONS = 250.0  # a CPU second
CPU_PER_CLOCK = 1.1  # as much as one thread can have, and a little
SHORT = 0.5  # seconds of an iteration that say nothing


@dataclass(frozen=True)
class Usage:
    """What this process has used so far."""

    clock: float  # seconds
    cpu: float  # seconds, over all threads
    preemptions: int  # involuntary context switches, over all threads

    @classmethod
    def now(cls) -> Usage:
        """Of this process, without its children."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.monotonic(), used.ru_utime + used.ru_stime, used.ru_nivcsw)


def is_busy(before: Usage, after: Usage, threads: int) -> bool:
    """Whether ``threads`` threads that worked between two looks got too little of the machine to be worth it."""
    clock, cpu = after.clock - before.clock, after.cpu - before.cpu
    if threads < 2 or clock < SHORT or cpu <= 0.0:
        return False
    return cpu / clock < CPU_PER_CLOCK and (after.preemptions - before.preemptions) / cpu > PREEMPTIONS


class BusyWatch:
    """Looks once an iteration, and speaks once at most."""

    def __init__(self, threads: int, usage: Usage) -> None:
        """``threads``: torch's in this process; fewer than two are never too many."""
        self._threads, self._last = threads, usage
        self._row = 0
        self._said = False

    def look(self, usage: Usage) -> str | None:
        """What there is to say after an iteration, if anything."""
        busy, self._last = is_busy(self._last, usage, self._threads), usage
        self._row = self._row + 1 if busy else 0
        if self._said or self._row < IN_A_ROW:
            return None
        self._said = True
        return (
            f"this machine is busy with other work, and {self._threads} threads wait for each other: `threads: 1` "
            "would be faster (params.yaml or the profile; it rounds otherwise, so what was trained is trained anew)"
        )
