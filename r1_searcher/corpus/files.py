"""Passages of the user's own, from JSONL, a JSON array, TSV or Parquet.

| column | |
|---|---|
| text | needed; a passage whose text is empty is skipped and counted |
| title | needed, may be empty |
| passage_id, or id | optional; without one, the id is a hash of title and text |

A TSV file has a header with these names, or no header and the columns id, title, text.
Other columns are ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from r1_searcher.corpus.counts import SKIPPED_EMPTY, SKIPPED_REPEATED, FileCount
from r1_searcher.corpus.position import Position, count_of, unread
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, streams
from r1_searcher.files.records import Record, identifier, read_records, text_field

_ID_NAMES = ("passage_id", "id")
_COLUMNS = (*_ID_NAMES, "title", "text")
HEADERLESS = ("id", "title", "text")


def read_passages(
    paths: Sequence[Path],
    counts: list[FileCount],
    on_bytes: streams.OnBytes | None = None,
    *,
    at: Position | None = None,
    seen: SeenIds | None = None,
) -> Iterator[dict[str, str]]:
    """Yield the passages of ``paths`` in their order as rows of PASSAGES; ``source`` is the file's name.

    Appends a ``FileCount`` per file to ``counts`` and keeps it and ``at`` up to date; goes on where ``at``, ``counts``
    and ``seen`` stand. Streams: of the passages read, only ``seen`` is kept in memory. Raises ``PipelineError`` with
    file and line for a broken line, a missing column or an id that occurs twice, and with the file for one without
    passages.
    """
    at, seen = at or Position(), SeenIds() if seen is None else seen
    for path in unread(paths, at, on_bytes):
        count = count_of(at, counts, path, "passage")
        for record in read_records(path, _COLUMNS, HEADERLESS, on_bytes=on_bytes, after=at.line):
            count.read += 1
            row = kept_passage(record, count, seen, path.name, path)
            if row is None:
                continue
            at.line, at.given = record.number, 1
            yield row
        if not count.kept:
            raise PipelineError(
                "no passage in this file" if not count.read else f"none of its {count.read} passages has a new text",
                where=str(path),
                fix="see corpus.files in params.yaml",
            )


def kept_passage(
    record: Record, count: FileCount, seen: SeenIds, source: str, path: Path | None = None
) -> dict[str, str] | None:
    """Return one record as a row of PASSAGES, counted; None if its text is empty, or it has no id and is repeated.

    Raises ``PipelineError`` for a missing column, a wrong type, and a given id that occurs twice.
    """
    row = _passage(record, source)
    given = bool(row["passage_id"])
    if not row["text"]:
        count.skip(SKIPPED_EMPTY, record, row["title"], path)
        return None
    if not given:
        row["passage_id"] = passage_id(row["title"], row["text"])
    if not seen.add(row["passage_id"]):
        if given:
            raise PipelineError(
                f"passage id {row['passage_id']!r} occurs a second time",
                where=record.place,
                fix="give every passage an id of its own, or none",
            )
        count.skip(SKIPPED_REPEATED, record, row["title"], path)
        return None
    count.keep()
    return row


def passage_id(title: str, text: str) -> str:
    """Return the id of a passage without one: 16 hex digits of a hash of title and text.

    It does not change when passages are added, removed or reordered.
    """
    return artefacts.fingerprint([title, text])[:16]


def _passage(record: Record, source: str) -> dict[str, str]:
    given = identifier(record, _ID_NAMES)
    title, text = text_field(record, "title"), text_field(record, "text")
    return {"passage_id": given[1] if given else "", "title": title, "text": text, "source": source}
