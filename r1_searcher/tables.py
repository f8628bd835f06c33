"""Tables as text, for terminals and logs, and as Markdown, for pages. Text from outside in cells is neutralised."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from typing import Literal

from r1_searcher.shown import _LONGEST, markdown_cell, printable

_NARROWEST = 8  # characters per column, including the two between columns
_UNBOUNDED = 1 << 20

Rows = Sequence[Sequence[str]]


def text(rows: Rows, *, left: Collection[int] = (0,), width: int | None = None) -> str:
    """Return lines of aligned columns, two spaces apart; columns in ``left`` are left-aligned, figures right-aligned.

    ``rows``: of equal length, headings first if there are any. ``width``: the terminal's width, at which long cells
    wrap; None: one line per row, however long. Nothing is cut.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for number in range(len(rows[0]) if rows else 0):
        justify: Literal["left", "right"] = "left" if number in left else "right"
        table.add_column(justify=justify, no_wrap=width is None, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    wide = _UNBOUNDED if width is None else max(width, _NARROWEST * len(table.columns))
    out = io.StringIO()
    Console(file=out, width=wide, color_system=None, force_terminal=False, _environ={}).print(table, crop=False)
    return "\n".join(line.rstrip(" ") for line in out.getvalue().split("\n")[:-1])


def markdown(
    headings: Sequence[str], rows: Rows, *, left: Collection[int] = (0,), longest: int | None = _LONGEST
) -> str:
    """Return the same in Markdown, with cells cut after ``longest`` characters (None: never). ``headings`` are our
    own."""
    rule = "|".join("---" if number in left else "---:" for number in range(len(headings)))
    lines = [" | ".join(markdown_cell(cell, longest=longest) for cell in row) for row in rows]
    return "\n".join([f"| {' | '.join(headings)} |", f"|{rule}|", *(f"| {line} |" for line in lines)])
