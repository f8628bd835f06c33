"""Where a reader of a corpus' files stands, so that it can go on there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_searcher.corpus.counts import FileCount
from r1_searcher.files import streams


@dataclass
class Position:
    """Where a reader stands: which file, the line (item, row) of the record whose passages it gives, and how many of
    these it has given. Line 0: before the first."""

    file: int = 0
    line: int = 0
    given: int = 0


def unread(paths: Sequence[Path], at: Position, on_bytes: streams.OnBytes | None) -> Iterator[Path]:
    """The files from ``at`` on; with each ``at`` moves to its beginning, but for the first, which was begun."""
    for number, path in enumerate(paths):
        if number < at.file:
            if on_bytes is not None:
                on_bytes(path.stat().st_size)
            continue
        if number > at.file:
            at.file, at.line, at.given = number, 0, 0
        yield path


def count_of(at: Position, counts: list[FileCount], path: Path, unit: str) -> FileCount:
    """The count of the file ``at`` stands in: as it was, or a new one."""
    if at.file == len(counts):
        counts.append(FileCount(path.name, unit=unit))
    return counts[at.file]
