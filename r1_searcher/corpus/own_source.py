"""Passages of a user's own source: checked, counted and deduplicated like those of files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from r1_searcher.corpus.counts import FileCount
from r1_searcher.corpus.files import kept_passage
from r1_searcher.corpus.seen_ids import SeenIds
from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Extension, wrap_user_errors
from r1_searcher.files.records import Record


def checked_passages(found: Extension, given: Any, counts: list[FileCount], seen: SeenIds) -> Iterator[dict[str, str]]:
    """Yield the passages of the source ``found``, each (id, title, text), as rows of PASSAGES; ``source`` is its name.

    Appends one ``FileCount`` to ``counts``. Raises ``PipelineError`` with the passage's number unless it is three
    strings with a new id, and with the line of the user's file for its exceptions.
    """
    name = f"the corpus source {found.registered.name!r}"
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise PipelineError(f"{name} must give passages to iterate over, got {given!r:.60}", where=found.place())
    count = FileCount(found.file.name)
    counts.append(count)
    with wrap_user_errors(found.file, name):
        for number, one in enumerate(given, 1):
            count.read += 1
            record = _record(one, f"{found.file}, passage {number}", number)
            row = kept_passage(record, count, seen, found.registered.name)
            if row is not None:
                yield row


def _record(one: Any, place: str, number: int) -> Record:
    if not isinstance(one, tuple | list) or len(one) != 3:
        raise PipelineError(f"must be (id, title, text), got {one!r:.60}", where=place)
    fields = dict(zip(("id", "title", "text"), one, strict=True))
    for name, value in fields.items():
        if not isinstance(value, str) and name != "id":
            raise PipelineError(f"{name!r} must be a string, got {value!r:.40}", where=place)
        try:
            str(value).encode()
        except UnicodeEncodeError:
            raise PipelineError(f"{name!r} is not valid Unicode: {value!r:.60}", where=place) from None
    return Record(place, number, fields)
