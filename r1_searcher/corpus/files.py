"""Turn one of the user's passages into a row of PASSAGES, or skip it."""

from __future__ import annotations

from pathlib import Path

from r1_searcher.corpus.counts import SKIPPED_EMPTY, SKIPPED_REPEATED, FileCount
from r1_searcher.corpus.layouts import PASSAGE_ID_NAMES, PASSAGE_TITLE_NAMES, PassageLayout, split_contents, text_of
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts
from r1_searcher.files.records import Record, identifier

PLAIN = PassageLayout("title and text", "text", "title", "id")


def kept_passage(
    record: Record,
    count: FileCount,
    seen: SeenIds,
    source: str,
    *,
    path: Path | None = None,
    layout: PassageLayout = PLAIN,
) -> dict[str, str] | None:
    """Return one record as a row of PASSAGES, counted; None if its text is empty, or it has no id and is repeated.

    Raises ``PipelineError`` for a missing column, a wrong type, and a given id that occurs twice.
    """
    row = _passage(record, source, layout)
    given = bool(row["passage_id"])
    if not row["text"]:
        count.skip(SKIPPED_EMPTY, record, row["title"], path)
        return None
    if not given:
        row["passage_id"] = passage_id(row["title"], row["text"])
    if not seen.add(row["passage_id"]):
        if given:
            raise PipelineError(
                f"passage id {row['passage_id']!r} is a duplicate",
                where=record.place,
                fix="give every passage its own id, or none",
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


def _passage(record: Record, source: str, layout: PassageLayout) -> dict[str, str]:
    given = identifier(record, PASSAGE_ID_NAMES)
    # A row may have a title even if the first one had none.
    title = text_of(record, next((name for name in PASSAGE_TITLE_NAMES if name in record.fields), None))
    text = text_of(record, layout.text)
    if layout.splits:
        title, text = split_contents(text)
    elif layout.has_contents and title:  # a title of its own may be the first line of the contents, too
        first, rest = split_contents(text)
        text = rest if first == title else text
    return {"passage_id": given[1] if given else "", "title": title, "text": text, "source": source}
