"""Read passages from the user's files, in any layout of ``layouts``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from r1_searcher.corpus.counts import SKIPPED_BAD, FileCount
from r1_searcher.corpus.files import kept_passage
from r1_searcher.corpus.kilt import kilt_pages
from r1_searcher.corpus.layouts import KILT_PAGES, PassageLayout, known_columns, mapped, recognise, without_header
from r1_searcher.corpus.position import Position, count_of, remaining_files
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.files import streams
from r1_searcher.files.columns import ColumnMapping, as_in_file
from r1_searcher.files.faults import Faults, OnBadRow
from r1_searcher.files.records import read_records


def read_passages(
    paths: Sequence[Path],
    counts: list[FileCount],
    on_bytes: streams.OnBytes | None = None,
    *,
    columns: ColumnMapping | None = None,
    on_bad_row: OnBadRow = "stop",
    words: int = 100,
    at: Position | None = None,
    seen: SeenIds | None = None,
) -> Iterator[dict[str, str]]:
    """Yield the passages of ``paths`` in order as rows of PASSAGES; ``source`` is the file's name.

    Appends a ``FileCount`` per file to ``counts`` and keeps it up to date. Streams: of the passages read, only ``seen``
    is kept. ``columns``: our names → the files'. ``words``: per passage, for KILT pages. ``at`` is kept up to date too;
    if ``at``, ``counts`` and ``seen`` come from an earlier read, reading resumes there.

    Raises ``PipelineError`` for an unknown layout, for a file without passages and, unless ``on_bad_row`` is skip, once
    per file for all rows that are broken, of a wrong type, or repeat an id.
    """
    at, seen, columns = at or Position(), SeenIds() if seen is None else seen, columns or {}
    for path in remaining_files(paths, at, on_bytes):
        layout = layout_of(path, columns)
        count = count_of(at, counts, path, "page" if layout.name == KILT_PAGES else "passage")
        count.layout, count.columns = layout.name, as_in_file(layout.columns, columns)
        if layout.name == KILT_PAGES:
            yield from kilt_pages(path, count, seen, words, on_bytes, at=at, on_bad_row=on_bad_row)
        else:
            reading = _Reading(columns, on_bytes, at, seen, on_bad_row)
            yield from reading.passages(path, layout, count)
        if not count.kept:
            raise PipelineError(
                "no passage in this file" if not count.read else f"none of its {count.read} passages has a new text",
                where=str(path),
                fix="see corpus.files in params.yaml",
            )


def layout_of(path: Path, columns: ColumnMapping) -> PassageLayout:
    """Return a file's layout from its first record."""
    for record in read_records(
        path, known_columns(columns), without_header(columns, str(path)), on_fault=lambda *_: None
    ):
        return recognise(mapped(record, columns), columns)
    # The file is empty or unreadable; reading it raises the right error.
    return PassageLayout("nothing", "text")


@dataclass(frozen=True)
class _Reading:
    """The arguments common to all files."""

    columns: ColumnMapping
    on_bytes: streams.OnBytes | None
    at: Position
    seen: SeenIds
    on_bad_row: OnBadRow

    def passages(self, path: Path, layout: PassageLayout, count: FileCount) -> Iterator[dict[str, str]]:
        """Yield one file's passages and count them; raises all its faults at the end."""
        faults, at = Faults(str(path), self.on_bad_row), self.at

        def broken(fault: PipelineError, number: int) -> None:
            if number > at.line:
                count.read += 1
                count.leave_out(SKIPPED_BAD, faults.add(fault))

        names, headerless = known_columns(self.columns), without_header(self.columns, str(path))
        given = read_records(path, names, headerless, on_bytes=self.on_bytes, on_fault=broken, after=at.line)
        for record in given:
            count.read += 1
            try:
                row = kept_passage(mapped(record, self.columns), count, self.seen, path.name, path=path, layout=layout)
            except PipelineError as fault:
                count.leave_out(SKIPPED_BAD, faults.add(fault))
                continue
            if row is None or (faults.number and not faults.skips):
                continue
            at.line, at.given = record.number, 1
            yield row
        faults.check("corpus.on_bad_row")
