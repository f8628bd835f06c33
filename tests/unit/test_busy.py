"""When is a machine too busy for several threads? Decided from figures alone; nothing is timed here."""

from __future__ import annotations

import resource

import pytest

from flows.machine_load import BusyWatch, Usage, is_busy

START = Usage(1000.0, 50.0, 7000)


def later(usage: Usage, clock: float, cpu: float, preemptions: float) -> Usage:
    """Return the load after so many seconds, with CPU seconds, and preemptions per CPU second."""
    return Usage(usage.clock + clock, usage.cpu + cpu, usage.preemptions + round(preemptions * cpu))


@pytest.mark.parametrize(
    ("clock", "cpu", "preemptions", "threads", "busy"),
    [
        (2.0, 3.3, 169, 2, False),  # two free cores, measured
        (2.0, 4.0, 21, 2, False),  # the same with libgomp's own spin count
        (5.0, 5.0, 935, 2, True),  # beside one neighbour
        (6.0, 5.0, 488, 2, True),  # beside two
        (5.0, 5.0, 935, 1, False),  # one thread cannot become fewer
        (5.0, 5.0, 935, 8, True),
        (5.0, 3.0, 40, 2, False),  # waits for searches or for a disk: nobody takes a core away
        (2.0, 3.8, 600, 2, False),  # preempted, but has its cores nearly all of the time
        (0.1, 0.05, 5000, 2, False),  # replayed from the store
        (5.0, 0.0, 0, 2, False),
    ],
)
def test_by_preemptions_and_by_cpu_time(clock: float, cpu: float, preemptions: float, threads: int, busy: bool) -> None:
    assert is_busy(START, later(START, clock, cpu, preemptions), threads) is busy


def test_it_speaks_once_after_three_busy_iterations_in_a_row() -> None:
    watch, now, said = BusyWatch(2, START), START, []
    for iteration, busy in enumerate([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1]):
        now = later(now, 5.0, 5.0 if busy else 8.0, 900 if busy else 50)
        if line := watch.look(now):
            said.append((iteration, line))
    assert [iteration for iteration, _ in said] == [5]
    assert "`threads: 1` would be faster" in said[0][1] and "2 threads" in said[0][1]


def test_the_kernel_is_asked_about_this_process() -> None:
    first = Usage.now()
    used = resource.getrusage(resource.RUSAGE_SELF)
    second = Usage.now()
    assert first.clock <= second.clock
    assert first.cpu <= used.ru_utime + used.ru_stime <= second.cpu
    assert first.preemptions <= used.ru_nivcsw <= second.preemptions
