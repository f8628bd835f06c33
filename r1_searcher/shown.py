"""Make text from outside safe to show: on a terminal, in a log, as printed JSON, inside Markdown.

Names of benchmarks and policies, ids, questions, predictions, paths and other programs' output are data. On a terminal
they must not move the cursor, set its title or reverse lines; on a page they must not become mark-up, links, mentions
or references.
"""

from __future__ import annotations

import json
import os
import re
import sys
import unicodedata
from collections.abc import Callable
from typing import TextIO

Log = Callable[[str], None]  # takes one line, e.g. ``show``

COLUMNS_VARIABLE = "R1_SEARCHER_COLUMNS"
_LONGEST = 100  # characters of a cell
JOINER = "\u2060"  # U+2060: invisible, no line breaks at it, and it ends an address or mention
# Where a link, mention or reference begins and needs U+2060; also "www." and "GH-".
_LINKED = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=[@#])|(?<=\bGH)(?=-\d)", re.IGNORECASE)
# An underscore within a word is not mark-up: names stay unchanged.
_MARKS = re.compile(r"[\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_])")
_BEGINS = re.compile(r"\A(?=[-+=])|\A\d{1,9}(?=[.)])")  # a list, or a heading's underline
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&dollar;"})  # $: mathematics on GitHub

_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""Return text for a terminal, a log or a table, with invisible characters as escapes (\\x1b)."""
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def printable_lines(text: str) -> str:
    """Return the same for several lines: line feeds stay, and tabs become spaces."""
    return text if text.isprintable() else "\n".join(map(printable, text.expandtabs().split("\n")))


def show(line: str, *, file: TextIO | None = None) -> None:
    """Print one line at once: with ``show_lines`` the only way to a terminal. ``file``: default stdout."""
    print(printable(line), file=sys.stdout if file is None else file, flush=True)


def show_piece(text: str, *, style: str = "", file: TextIO | None = None) -> None:
    """Print a piece of text at once, without a line end, in an ANSI ``style`` ("2" faint, "1;32" bold green) if the
    output is a terminal in colour (``NO_COLOR`` is not set)."""
    out = sys.stdout if file is None else file
    colour = style and out.isatty() and not os.environ.get("NO_COLOR")
    print(
        f"\x1b[{style}m{printable_lines(text)}\x1b[0m" if colour else printable_lines(text),
        end="",
        file=out,
        flush=True,
    )


def show_lines(text: str) -> None:
    """Print several lines: a table, JSON. The caller ensures that no name contains a line end."""
    print(printable_lines(text), flush=True)


def terminal_width(out: TextIO | None = None) -> int | None:
    """Return the width in cells of ``out`` (default: stdout); None if it is no terminal or has no size."""
    out = sys.stdout if out is None else out
    try:
        return (os.get_terminal_size(out.fileno()).columns or None) if out.isatty() else None
    except (OSError, ValueError):
        return None


def table_width() -> int | None:
    """Return the width for tables on stdout: the terminal's, or that of the terminal on which the program that reads
    the output shows it (``COLUMNS_VARIABLE``); None: as wide as they are."""
    told = os.environ.get(COLUMNS_VARIABLE, "")
    return terminal_width() or (int(told) if told.isdecimal() and int(told) > 0 else None)


def json_text(value: object, *, indent: int | None = 2) -> str:
    """Return JSON to print: letters of all scripts unchanged, anything not ``printable`` as JSON escapes."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def markdown(text: str, *, longest: int | None = _LONGEST) -> str:
    """Return one line of plain text for a Markdown paragraph, cut after ``longest`` characters (None: never).

    It contains no mark-up, link, mention or reference, on GitHub or on Prefect's pages.
    """
    return _BEGINS.sub(lambda begins: f"{begins[0]}\\", markdown_cell(text, longest=longest))


def markdown_cell(text: str, *, longest: int | None = _LONGEST) -> str:
    """As ``markdown``, for a table's cell, where no list can begin: a figure keeps its sign."""
    line = _MARKS.sub(lambda mark: f"\\{mark[0]}", _one_line(text, longest).translate(_ENTITIES))
    return _LINKED.sub(JOINER, line)


def visible(text: str) -> str:
    """Return text for an HTML page, with its lines: control characters and direction changes appear as ⟦1B⟧."""
    return _ACTING.sub(lambda match: f"⟦{ord(match[0]):02X}⟧", text)


def code_span(text: str, *, longest: int | None = _LONGEST) -> str:
    """Return one line as code in a Markdown paragraph, whatever backticks it contains. Not for table cells."""
    line = _one_line(text, longest)
    fence = "`" * (_longest_run(line) + 1)
    pad = " " if not line or line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def fenced(text: str) -> str:
    """Return lines as a Markdown code block that none of them can close."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{printable_lines(text)}\n{fence}"


def _one_line(text: str, longest: int | None) -> str:
    line = printable(" ".join(text.split()))
    return line if longest is None or len(line) <= longest else f"{line[: longest - 1]}…"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
