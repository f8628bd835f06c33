"""KILT's knowledge source (Petroni et al., 2021, arXiv 2009.02252) as passages of a fixed number of words.

A record is a Wikipedia page: ``wikipedia_title``, ``text`` (a list of paragraphs, the first of which is the title; in
the hub's copy {"paragraph": […]}) and, in the full file, ``wikipedia_id``. Headings are paragraphs
"Section::::History.", list items "BULLET::::- …"; the marks are removed, the words stay. All words of a page, beginning
with the title line, are cut every ``words`` words; the last passage is shorter. The release of R1-Searcher cuts its
corpus like this; its file (idx<TAB>title, three spaces, text) is also accepted if its name ends in .tsv.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from r1_searcher.corpus.counts import SKIPPED_BAD, SKIPPED_EMPTY, SKIPPED_REPEATED, FileCount
from r1_searcher.corpus.files import passage_id
from r1_searcher.corpus.layouts import is_paragraphs
from r1_searcher.corpus.position import Position, count_of, remaining_files
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.files import streams
from r1_searcher.files.faults import Faults, OnBadRow
from r1_searcher.files.records import Record, identifier, read_records, text_field

PAGE_NAMES = ("wikipedia_id", "_id")
_PAGE_COLUMNS = ("wikipedia_title", "text", *PAGE_NAMES)
MARKS = ("Section::::", "BULLET::::")
SKIPPED_TITLE_ONLY, SKIPPED_PAGE = "only_a_title", "repeated_page"
_CUT_COLUMNS = ("id", "contents")
_CUT_SEPARATOR = "   "


def read_kilt(
    paths: Sequence[Path],
    counts: list[FileCount],
    words: int,
    on_bytes: streams.OnBytes | None = None,
    *,
    at: Position | None = None,
    seen: SeenIds | None = None,
    on_bad_row: OnBadRow = "stop",
) -> Iterator[dict[str, str]]:
    """Yield the passages of ``paths`` as rows of PASSAGES, in order; ``source`` is the file's name.

    A passage's id is its page's id (or a hash of the title if pages have none) and its number in the page, from 0.
    Repeated pages, and those with only a title, are skipped and counted. Appends a ``FileCount`` per file to ``counts``
    (of pages) and keeps it and ``at`` up to date; continues from ``at``, ``counts`` and ``seen``. Streams: only
    ``seen`` is kept. Raises ``PipelineError`` with file and line for pages of another layout, unless ``on_bad_row`` is
    skip, and for a file without a passage.
    """
    at, seen = at or Position(), SeenIds() if seen is None else seen
    for path in remaining_files(paths, at, on_bytes):
        cut = streams.kind(path) == ".tsv"
        count = count_of(at, counts, path, "passage" if cut else "page")
        if cut:
            yield from _cut(path, count, seen, on_bytes)
        else:
            yield from kilt_pages(path, count, seen, words, on_bytes, at=at, on_bad_row=on_bad_row)
        if not count.kept:
            raise PipelineError("no passage in this file", where=str(path), fix="see corpus.files in params.yaml")


def kilt_pages(
    path: Path,
    count: FileCount,
    seen: SeenIds,
    words: int,
    on_bytes: streams.OnBytes | None,
    *,
    at: Position,
    on_bad_row: OnBadRow = "stop",
) -> Iterator[dict[str, str]]:
    """Yield the passages of one file of pages, as ``read_kilt``; raises all its faults at the end."""
    faults, begun = Faults(str(path), on_bad_row), at.line  # a page that was counted before, with passages yielded

    def broken(fault: PipelineError, number: int) -> None:
        if number > begun:
            count.read += 1
            count.leave_out(SKIPPED_BAD, faults.add(fault))

    for record in read_records(path, _PAGE_COLUMNS, on_bytes=on_bytes, on_fault=broken, after=max(0, begun - 1)):
        again = record.number == begun
        count.read += not again
        try:
            title, paragraphs = text_field(record, "wikipedia_title"), _paragraphs(record)
            given = identifier(record, PAGE_NAMES)
        except PipelineError as fault:
            count.leave_out(SKIPPED_BAD, faults.add(fault))
            continue
        page = given[1] if given else passage_id(title, "")
        texts = split(paragraphs, words)
        if not any(paragraph.strip() not in ("", title) for paragraph in paragraphs):
            count.skip(SKIPPED_TITLE_ONLY if texts else SKIPPED_EMPTY, record, title, path)
        elif not again and not seen.add(page):
            count.skip(SKIPPED_PAGE, record, title, path)
        else:
            if not again:
                count.keep(len(texts))
            for number, text in enumerate(texts):
                if (again and number < at.given) or (faults.number and not faults.skips):
                    continue
                at.line, at.given = record.number, number + 1
                yield {"passage_id": f"{page}-{number}", "title": title, "text": text, "source": path.name}
    faults.check("corpus.on_bad_row")


def _paragraphs(record: Record) -> list[str]:
    value = record.fields.get("text")
    value = value["paragraph"] if isinstance(value, dict) and is_paragraphs(value) else value
    if not isinstance(value, list) or not all(isinstance(paragraph, str) for paragraph in value):
        raise PipelineError("'text' must be a list of paragraphs", where=record.place)
    return value


def split(paragraphs: Sequence[str], words: int) -> list[str]:
    """Return passages of ``words`` words (the last may be shorter), separated by single spaces, without marks."""
    found: list[str] = []
    for paragraph in paragraphs:
        mark = next((mark for mark in MARKS if paragraph.startswith(mark)), "")
        found += paragraph[len(mark) :].split()
    return [" ".join(found[start : start + words]) for start in range(0, len(found), words)]


def _cut(path: Path, count: FileCount, seen: SeenIds, on_bytes: streams.OnBytes | None) -> Iterator[dict[str, str]]:
    """Yield passages that were cut before: TSV of an id, and title, three spaces, text."""
    for record in read_records(path, _CUT_COLUMNS, _CUT_COLUMNS, on_bytes=on_bytes):
        count.read += 1
        text_field(record, "contents")  # checks that it exists
        title, separator, text = record.fields["contents"].partition(_CUT_SEPARATOR)
        if not separator:
            raise PipelineError("there are not three spaces between title and text", where=record.place)
        identity = text_field(record, "id")
        if not text.strip():
            count.skip(SKIPPED_EMPTY, record, title, path)
        elif not seen.add(identity):
            count.skip(SKIPPED_REPEATED, record, title, path)
        else:
            count.keep()
            yield {"passage_id": identity, "title": title.strip(), "text": text.strip(), "source": path.name}
