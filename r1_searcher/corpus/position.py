"""The position of a reader in a corpus' files, from which it can continue."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_searcher.corpus.counts import FileCount
from r1_searcher.files import streams


@dataclass
class Position:
    """A reader's position: the file, the line (item, row) of the current record, and how many of its passages were
    yielded. Line 0: before the first."""

    file: int = 0
    line: int = 0
    given: int = 0


def remaining_files(paths: Sequence[Path], at: Position, on_bytes: streams.OnBytes | None) -> Iterator[Path]:
    """Yield the files from ``at`` on, moving ``at`` to the beginning of each, except the first, which was already
    begun."""
    for number, path in enumerate(paths):
        if number < at.file:
            if on_bytes is not None:
                on_bytes(path.stat().st_size)
            continue
        if number > at.file:
            at.file, at.line, at.given = number, 0, 0
        yield path


def count_of(at: Position, counts: list[FileCount], path: Path, unit: str) -> FileCount:
    """Return the count of the file at ``at``: the existing one, or a new one."""
    if at.file == len(counts):
        counts.append(FileCount(path.name, unit=unit))
    return counts[at.file]
