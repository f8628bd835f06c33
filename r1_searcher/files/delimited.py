"""Read tab- and comma-separated text, with column names from a header or from the caller."""

from __future__ import annotations

import csv
import io
import itertools
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

from r1_searcher.errors import PipelineError

LOOKED_AT = 200  # rows from which the columns of a headerless file are inferred

Row = tuple[str, int, list[str]]  # place, line, values
Headerless = Callable[[Sequence[Sequence[str]]], Sequence[str]]  # the first rows → the columns' names, or PipelineError
OnFault = Callable[[PipelineError, int], None]  # called with an unreadable row's fault and its number
_LONGEST_NAME = 40  # characters of a column's name
_BARE = re.compile(r"[A-Za-z_][\w .-]{0,40}")


def named_rows(
    rows: Iterator[Row],
    known: Iterable[str],
    headerless: Sequence[str] | Headerless,
    on_fault: OnFault | None,
) -> Iterator[tuple[str, int, dict[str, str]]]:
    """Yield each row as a dict by column name. The first row is a header if any of its values is in ``known``, in any
    case; one such value alone may also be a title ("Body"), so then no other may be a number or a long text.

    ``headerless``: the names if there is no header, or a function of the first rows; empty if a header is required.
    """
    by_lower = {name.lower(): name for name in reversed(list(known))}
    first = list(itertools.islice(rows, LOOKED_AT))
    if not first:
        return
    header = [by_lower.get(value.strip().lower(), value.strip()) for value in first[0][2]]
    names_there = set(header) & set(by_lower.values())
    if len(names_there) > 1 or (names_there and not any(map(_is_data, header))):
        if len(set(header)) != len(header):
            raise PipelineError("the header names a column twice", where=first[0][0])
        names: Sequence[str] = header
        first = first[1:]
    elif not headerless:
        raise PipelineError("no header", where=first[0][0], fix=f"first line: names among {', '.join(known)}")
    else:
        names = headerless([values for _, _, values in first]) if callable(headerless) else headerless
    for place, number, values in itertools.chain(first, rows):
        if len(values) != len(names):
            needed = ", ".join(names)
            fault = PipelineError(f"{len(values)} fields, not {len(names)}", where=place, fix=f"needed: {needed}")
            if on_fault is None:
                raise fault
            on_fault(fault, number)
            continue
        yield place, number, dict(zip(names, values, strict=True))


def tab_separated(lines: Iterator[tuple[str, int, str]]) -> Iterator[Row]:
    """Yield the rows of lines (place, number, text)."""
    for place, number, line in lines:
        yield place, number, [_unquoted(value) for value in line.split("\t")]


def comma_separated(stream: IO[bytes], where: str) -> Iterator[Row]:
    """Yield the rows of CSV per RFC 4180; a quoted value may hold line ends. Raises ``PipelineError`` for invalid
    CSV."""
    csv.field_size_limit(sys.maxsize)  # process-wide; the csv module's own limit, 128 KiB, is less than a page
    text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
    reader = csv.reader(text, strict=True)
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise PipelineError(f"not CSV: {error}", where=f"{where}, line {reader.line_num}") from None
        except UnicodeDecodeError:
            fix = "convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD > NEW, if that is its encoding"
            raise PipelineError("not UTF-8", where=where, fix=fix) from None
        if values is None:
            break
        if len(values) == 1 and reader.line_num == 1 and (other := next((one for one in ";|" if one in values[0]), "")):
            raise PipelineError(
                f"separated by {other!r}, not by commas", where=where, fix="write it with commas or tabs"
            )
        if any(value.strip() for value in values):
            yield f"{where}, line {reader.line_num}", reader.line_num, values
    text.detach()


def looks_like_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row looks like a header of unknown names: bare words where the other rows' first column
    has digits, or their other columns have longer text."""
    first, others = rows[0], rows[1:]
    if not all(_BARE.fullmatch(value.strip()) for value in first) or len({*first}) < len(first):
        return False
    if not others:
        return not any(character.isdecimal() for value in first for character in value)
    digits = all(any(character.isdecimal() for character in row[0]) for row in others if row)
    if digits and not any(character.isdecimal() for character in first[0]):
        return True
    longest = max(len(value) for value in first)
    return all(max(map(len, row), default=0) > 3 * longest for row in others)


def _is_data(value: str) -> bool:
    return value.isdecimal() or len(value) > _LONGEST_NAME


def _unquoted(value: str) -> str:
    """Undo CSV quoting (used by DPR's and KILT's files) if the whole field is well quoted; else leave it.

    A csv reader would take a stray quote at a field's start as an opening one and swallow the following lines.
    """
    inner = value[1:-1]
    if len(value) >= 2 and value[0] == value[-1] == '"' and '"' not in inner.replace('""', ""):
        return inner.replace('""', '"')
    return value
