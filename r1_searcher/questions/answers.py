"""A record's gold answers (``r1_searcher.golds``), with the place of what is none."""

from __future__ import annotations

from r1_searcher.errors import PipelineError
from r1_searcher.files.records import Record
from r1_searcher.golds import NotGold, parse_golds


def golds(record: Record, name: str) -> list[str]:
    """Return the gold answers in column ``name``, in order, without duplicates, nulls and empty ones.

    Raises ``PipelineError`` with the place for a value of another form.
    """
    try:
        found = parse_golds(record.fields.get(name), textual=record.textual)
    except NotGold as fault:
        raise PipelineError(f"{name!r} {fault}", where=record.place) from None
    return list(dict.fromkeys(found))
