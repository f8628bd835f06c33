"""Questions of a user's own source, checked like those of files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from r1_searcher.errors import PipelineError
from r1_searcher.extensions import Extension, wrap_user_errors
from r1_searcher.files.records import Record
from r1_searcher.names import name as checked_name
from r1_searcher.questions.files import table_of
from r1_searcher.questions.source import QuestionRequest, Splits, check_splits


def own_splits(found: Extension, request: QuestionRequest, parameters: Any) -> Splits:
    """Return the questions of the source ``found`` as tables.

    Raises ``PipelineError`` with split and number for a question that a file could not contain either, for a missing
    split or an invalid name, and with the line of the user's file for its exceptions.
    """
    name = found.registered.name
    what = f"the question source {name!r}"
    with wrap_user_errors(found.file, what):
        given = found.value(request, parameters)
    if not isinstance(given, Mapping):
        raise PipelineError(f"{what} must return questions by split, got {given!r:.60}", where=found.place())
    for split in given:
        try:
            checked_name(str(split))
        except ValueError as error:
            raise PipelineError(f"{what} gives a split {error}", where=found.place()) from None
    check_splits(given, where=found.place(), what="questions")
    with wrap_user_errors(found.file, what):
        tables = {
            split: table_of(_records(rows, f"{found.file}, {split}"), f"{name}_{split}", where=f"{found.file}, {split}")
            for split, rows in given.items()
        }
    return Splits(tables, {"source": name})


def _records(rows: Any, place: str) -> Iterator[Record]:
    if not isinstance(rows, Iterable) or isinstance(rows, str | bytes | Mapping):
        raise PipelineError(f"must be a list of questions, got {rows!r:.60}", where=place)
    for number, row in enumerate(rows, 1):
        where = f"{place} {number}"
        if not isinstance(row, Mapping) or not all(isinstance(key, str) for key in row):
            raise PipelineError(f"must be a mapping with question and answer, got {row!r:.60}", where=where)
        try:
            json.dumps(dict(row), ensure_ascii=False, default=repr).encode()
        except UnicodeEncodeError:
            raise PipelineError("is not valid Unicode", where=where) from None
        yield Record(where, number, dict(row))
