"""Long work shows progress by the clock, whatever its units."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from r1_searcher.progress import Paced


class Clock:
    """A clock that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def terminal(columns: int) -> Iterator[tuple[TextIO, Callable[[], str]]]:
    """A real terminal, and its content."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen, os.fdopen(its, "w") as out:
        fcntl.ioctl(out, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

        def shown() -> str:
            """Return what was written since the last call. Linux hands it over in the background: a mark ends it."""
            out.write("\0")
            out.flush()
            content = b""
            while not content.endswith(b"\0"):
                content += screen.read(1 << 16)
            return content[:-1].decode()

        yield out, shown


class Heard(io.StringIO):
    """Records when something was written."""

    def __init__(self) -> None:
        super().__init__()
        self.event = threading.Event()

    def flush(self) -> None:
        super().flush()
        self.event.set()


def test_a_line_every_15_seconds_however_often_it_is_told() -> None:
    clock, out = Clock(), io.StringIO()
    paced = Paced("stage2 held_out", unit="questions", out=out, clock=clock)
    for second in range(50):
        clock.now = 100.0 + second
        for part in range(10):
            paced.told(10 * second + part, 3000)
    assert out.getvalue().splitlines() == [
        "stage2 held_out: 150 of 3,000 questions, 15 s so far",
        "stage2 held_out: 300 of 3,000 questions, 30 s so far",
        "stage2 held_out: 450 of 3,000 questions, 45 s so far",
    ]


def test_a_slow_step_is_told_at_once_and_then_not_for_15_seconds() -> None:
    clock, out = Clock(), io.StringIO()
    paced = Paced("base model", unit="tokens", out=out, clock=clock)
    for second in (14, 40, 54, 55):
        clock.now = 100.0 + second
        paced.told(1000 * second, 60_000, f"loss {second / 10}")
    assert out.getvalue().splitlines() == [
        "base model: 40,000 of 60,000 tokens, 40 s so far, loss 4.0",
        "base model: 55,000 of 60,000 tokens, 55 s so far, loss 5.5",
    ]


def test_work_that_tells_nothing_is_heard_too() -> None:
    clock, out = Clock(), Heard()
    with Paced("update", out=out, clock=clock, every=0.01):
        clock.now += 300.0
        assert out.event.wait(60.0), "its thread said nothing"
    assert out.getvalue().splitlines()[0] == "update: 300 s so far"


def test_short_work_is_silent_and_its_thread_ends() -> None:
    out, before = io.StringIO(), threading.active_count()
    with Paced("update", out=out) as paced:
        paced.told(1, 2)
        assert threading.active_count() == before + 1
    assert (out.getvalue(), threading.active_count()) == ("", before)


def test_an_error_goes_through_and_ends_the_thread() -> None:
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt), Paced("update", out=io.StringIO()):
        raise KeyboardInterrupt
    assert threading.active_count() == before


def test_a_terminal_gets_a_bar_that_leaves_nothing_behind() -> None:
    clock = Clock()
    with terminal(80) as (out, shown):
        with Paced("evaluation", unit="questions", out=out, clock=clock) as paced:
            paced.told(1, 4)
            assert shown() == ""  # it may end at once
            clock.now += 2.0
            paced.told(3, 4, "F1 0.5")
            said = shown()
            assert "evaluation:" in said and "3/4" in said
            clock.now += 60.0
            paced.look()
        said += shown()
    assert "so far" not in said
    assert said.split("\r")[-1].strip() == ""


def test_a_terminal_without_a_size_gets_lines() -> None:
    clock = Clock()
    with terminal(0) as (out, shown), Paced("evaluation", unit="questions", out=out, clock=clock) as paced:
        clock.now += 15.0
        paced.told(3, 4)
        assert shown().splitlines() == ["evaluation: 3 of 4 questions, 15 s so far"]


def test_what_is_added_up_is_told_with_its_speed() -> None:
    clock, out = Clock(), io.StringIO()
    paced = Paced("corpus", unit="bytes", total=90_000, out=out, clock=clock)
    for _ in range(3000):
        paced.add(10)
    paced.add(0, "2,000 passages")
    clock.now += 15.0
    paced.look()
    assert out.getvalue() == "corpus: 30,000 of 90,000 bytes, 15 s so far, 2,000 per second, 2,000 passages\n"
