"""The terminal while the pipeline runs: lines scroll above, and below them a block shows where the run is.

`make train` and `make smoke` draw it if standard output is a terminal; elsewhere they print plain lines. The block has
the stages that are done, the work in progress as a bar, and while a segment trains its figures with their history.
``Board`` is the state, changed by DVC's lines and by events (``r1_searcher.progress_events``); ``drawn`` renders it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from r1_searcher.shown import printable

_RUNS = re.compile(r"Running stage '(?P<name>[^']+)'")
_DONE = re.compile(r"Stage '(?P<name>[^']+)' (?:didn't change|is cached)")
_BLOCKS = "▁▂▃▄▅▆▇█"
_NAMES = {"reward": "reward", "search_rate": "searched", "format_rate": "format", "f1": "F1"}
_BAR, _LEAST_BAR = 32, 8  # cells; below the least there is none
_TITLE, _GAP, _FIGURE = 22, 2, 6  # cells: of a row's name, between columns, of a figure
_HISTORY = 40  # iterations at most


@dataclass
class Board:
    """Where the run is. ``stages``: the number of stages that the run goes through."""

    stages: int
    began: float
    running: str = ""
    running_since: float = 0.0
    done: set[str] = field(default_factory=set)
    work: Mapping[str, Any] | None = None
    iteration: Mapping[str, Any] | None = None
    history: dict[str, list[float]] = field(default_factory=dict)

    def line(self, line: str, now: float) -> None:
        """Take notice of a line of `dvc repro`."""
        if found := _DONE.match(line):
            self._finish()
            self.done.add(found["name"])
        elif found := _RUNS.match(line):
            self._finish()
            self.running, self.running_since = found["name"], now

    def event(self, event: Mapping[str, Any]) -> None:
        """Take notice of an event of a stage's process."""
        if event.get("kind") == "work":
            self.work = None if event.get("over") else event
        elif event.get("kind") == "iteration":
            self.iteration = event
            for name, value in event["figures"].items():
                self.history.setdefault(name, []).append(float(value))

    def ended(self, status: int) -> None:
        """Take notice of the run's end. A stage that failed is not done."""
        if status != 0:
            self.running = ""
        self._finish()

    def _finish(self) -> None:
        if self.running:
            self.done.add(self.running)
        self.running, self.work, self.iteration = "", None, None
        self.history.clear()


def drawn(board: Board, now: float) -> Group:
    """Return the block below the lines."""
    parts: list[RenderableType] = [_stages(board, now)]
    if board.work is not None:
        parts.append(_work(board.work))
    if board.iteration is not None:
        parts += [_iterations(board.iteration), _Figures(board.iteration["figures"], board.history)]
    return Group(*parts)


@dataclass
class _Row:
    """A name, a bar and some words. On a narrow terminal the bar is shorter, and the last words go below it."""

    what: str
    done: float
    total: float
    after: tuple[Text, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        beside = [words for words in self.after if words.plain]
        below: list[Text] = []
        while (room := self._room(beside, options.max_width)) < (_LEAST_BAR if len(beside) > 1 else 0) and beside:
            below.insert(0, beside.pop())
        row = Table.grid(padding=(0, _GAP, 0, 0))
        row.add_column(min_width=_TITLE, overflow="ellipsis", no_wrap=True)
        cells: list[RenderableType] = [Text(printable(self.what), style="bold")]
        if room >= _LEAST_BAR:
            row.add_column(width=(width := min(_BAR, room)))
            done = min(self.done, self.total) if self.total else 0
            cells.append(ProgressBar(total=self.total or None, completed=done, width=width, pulse=not self.total))
        for words in beside:
            row.add_column(no_wrap=True)
            cells.append(words)
        row.add_row(*cells)
        yield row
        if below:
            yield Text("  ", no_wrap=True, overflow="ellipsis").append_text(Text("  ").join(below))

    def _room(self, beside: Sequence[Text], width: int) -> int:
        """Return the cells that are left for a bar."""
        title = max(_TITLE, cell_len(printable(self.what)))
        return width - title - _GAP - sum(_GAP + words.cell_len for words in beside)


def _row(what: str, done: float, total: float, *after: Text) -> _Row:
    return _Row(what, done, total, after)


def _stages(board: Board, now: float) -> _Row:
    name = f"stage {board.running}" if board.running else "stages"
    count = Text(f"{len(board.done)} of {board.stages} stages")
    return _row(name, len(board.done), board.stages, count, Text(_clock(now - board.began), style="dim"))


def _work(work: Mapping[str, Any]) -> _Row:
    done, total = int(work["done"]), int(work["total"])
    of = f"{done:,} of {total:,}" if total else f"{done:,}" if done else ""
    note = str(work.get("note") or "")
    said = " ".join(part for part in (of, str(work["unit"]) if of else "") if part)
    left = "" if "left" in note or not (done and total) else _left(float(work["seconds"]), done / total)
    return _row(str(work["what"]), done, total, Text(printable(said)), Text(printable(note or left), style="dim"))


def _iterations(one: Mapping[str, Any]) -> _Row:
    speed = one.get("tokens_per_second")
    left = one.get("seconds_left")
    after = [
        Text(f"iteration {one['done']} of {one['of']}"),
        Text("" if left is None else f"{_clock(left)} left", style="dim"),
        Text("from the store" if speed is None else f"{speed:,.0f} tokens/s", style="dim"),
    ]
    return _row(f"segment {one['segment']}", int(one["done"]), int(one["of"]), *after)


@dataclass
class _Figures:
    """The figures of an iteration with their history: as many values as the terminal is wide."""

    now: Mapping[str, float]
    history: Mapping[str, Sequence[float]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = Table.grid(padding=(0, _GAP, 0, 0))
        table.add_column(min_width=_TITLE)
        table.add_column(justify="right")
        table.add_column(no_wrap=True)
        room = max(1, options.max_width - _TITLE - _GAP - _FIGURE - _GAP)
        for name, value in self.now.items():
            title = Text("  " + _NAMES.get(name, printable(name)))
            shown = Text(f"{value:+.3f}" if name == "reward" else f"{value:.3f}")
            table.add_row(title, shown, sparkline(self.history[name][-room:]))
        yield table


def sparkline(values: Sequence[float]) -> Text:
    """Return the last values as blocks, the smallest of them lowest and the largest highest."""
    values = values[-_HISTORY:]
    low, high = min(values), max(values)
    scale = (len(_BLOCKS) - 1) / (high - low) if high > low else 0.0
    return Text("".join(_BLOCKS[round((value - low) * scale)] for value in values), style="green")


def _left(seconds: float, share: float) -> str:
    return f"{_clock(seconds / share - seconds)} left" if seconds > 2.0 else ""


def _clock(seconds: float) -> str:
    """Format seconds: 95 -> '1:35', 3700 -> '1:01:40'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
