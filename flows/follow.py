"""Run `dvc repro` and show its output: plain lines, and on a terminal a block below them that shows where it is."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows import dag
from flows.board import Board, drawn
from flows.progress_listener import listening
from r1_searcher.progress_events import VARIABLE
from r1_searcher.shown import COLUMNS_VARIABLE, printable, show, terminal_width

if TYPE_CHECKING:
    from rich.console import Group

_NARROWEST = 60  # cells: a narrower terminal gets lines


def run_repro(folder: Path, environment: Mapping[str, str], stages: Sequence[str] = ()) -> int:
    """Run `dvc repro` in ``folder`` for ``stages`` and what they need (none: all); return its status.

    Ctrl-C reaches DVC as well, whose stage prints its last lines; then this raises ``KeyboardInterrupt`` if DVC ends
    with an error.
    """
    environment = {**environment, "PYTHONUNBUFFERED": "1"}
    if (width := terminal_width()) is not None:
        environment[COLUMNS_VARIABLE] = str(width)
    if not _draws():
        return _follow(folder, environment, stages, show, merged=False)
    with _board(folder, environment, stages) as (say, ended, address):
        status = _follow(folder, {**environment, VARIABLE: address}, stages, say, merged=sys.stderr.isatty())
        ended(status)
    return status


def _draws() -> bool:
    return (terminal_width() or 0) >= _NARROWEST and os.environ.get("TERM", "dumb") != "dumb"


def _follow(
    folder: Path, environment: Mapping[str, str], stages: Sequence[str], say: Callable[[str], None], *, merged: bool
) -> int:
    """``merged``: standard error goes the same way, so that it does not write into the block."""
    run = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", *stages],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if merged else None,
        text=True,
        errors="replace",
    )
    assert run.stdout is not None
    interrupted = False
    with run:
        lines = without_advice(run.stdout)
        while True:
            try:
                for line in lines:
                    say(line.rstrip("\n").expandtabs())
                status = run.wait()
                break
            except KeyboardInterrupt:  # DVC gets it too and ends its stage, which prints its own last lines
                interrupted = True
                lines = without_advice(run.stdout)
    if interrupted and status != 0:
        raise KeyboardInterrupt
    return status


@contextlib.contextmanager
def _board(
    folder: Path, environment: Mapping[str, str], stages: Sequence[str]
) -> Iterator[tuple[Callable[[str], None], Callable[[int], None], str]]:
    """Draw a board until the block ends. Yields a function that prints a line above it, one to call with the status at
    the end, and the address of events."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    board = Board(len(dag.order(dag.read_graph(folder, environment), stages)), began=time.monotonic())
    lock = threading.Lock()  # lines and events come in different threads, and a third one draws
    console = Console(highlight=False)

    def render() -> Group:
        with lock:
            return drawn(board, time.monotonic())

    def heard(event: Mapping[str, object]) -> None:
        with lock:
            board.event(event)

    with listening(heard) as address, Live(console=console, get_renderable=render, refresh_per_second=4) as live:

        def say(line: str) -> None:
            with lock:
                board.line(line, time.monotonic())
            live.console.print(Text(printable(line)), soft_wrap=True)

        def ended(status: int) -> None:
            with lock:
                board.ended(status)

        yield say, ended, address


ADVICE = (  # DVC's after each stage; nothing is committed in a workspace
    "To track the changes with git, run:",
    "\tgit add ",
    "To enable auto staging, run:",
    "\tdvc config core.autostage true",
    "Use `dvc push` to send your updates to remote storage.",
)


def without_advice(lines: Iterable[str]) -> Iterator[str]:
    """Yield the lines of `dvc repro` without its advice on git and remotes and the empty lines around it."""
    after = False
    for line in lines:
        if line.startswith(ADVICE):
            after = True
        elif line.strip() or not after:
            after = False
            yield line
