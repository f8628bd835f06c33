"""``questions.source: files``: one file per split."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.extend import question_source
from r1_searcher.params import Questions
from r1_searcher.questions.source import QuestionRequest, Splits, check_splits


@question_source("files")
def files(request: QuestionRequest, parameters: None) -> Splits:
    """Read the questions of ``questions.files``."""
    settings = request.settings
    check_splits(settings.files, where="params.yaml, questions.files", what="file")
    read = {split: _read(named, split, settings) for split, named in settings.files.items()}
    return Splits(
        {split: table for split, (table, _) in read.items()},
        {"source": "files"},
        {split: counts for split, (_, counts) in read.items()},
    )


def _read(named: str | list[str], split: str, settings: Questions) -> tuple[pa.Table, list[dict[str, Any]]]:
    """Return the questions of a split's files, concatenated, and what became of each file's."""
    from r1_searcher.files.named import files_of
    from r1_searcher.questions.files import read_counted

    where = f"params.yaml, questions.files.{split}"
    tables, counts = [], []
    for path in files_of([named] if isinstance(named, str) else named, where=where):
        table, count = read_counted(
            path,
            columns=settings.columns_of(split),
            on_bad_row=settings.on_bad_row,
            on_no_answer=settings.on_no_answer,
        )
        tables.append(table)
        counts.append(asdict(count))
    found = pa.concat_tables(tables)
    twice = [name for name, number in Counter(found["question_id"].to_pylist()).items() if number > 1]
    if twice:
        raise PipelineError(
            f"{len(twice):,} question ids occur in several of its files, such as {twice[0]!r}",
            where=where,
            fix="give every question its own id, or none",
        )
    return found, counts
