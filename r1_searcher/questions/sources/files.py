"""``questions.source: files``: one file per split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
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
    paths = files_of([named] if isinstance(named, str) else named, where=where)
    folders = _folders(paths)
    for path in paths:
        table, count = read_counted(
            path,
            columns=settings.columns_of(split),
            on_bad_row=settings.on_bad_row,
            on_no_answer=settings.on_no_answer,
            dataset=folders.get(path),
        )
        tables.append(table)
        counts.append(asdict(count) | ({"file": f"{folders[path]}/{path.name}"} if path in folders else {}))
    found = _with_ids(tables, paths)
    twice = [name for name, number in Counter(found["question_id"].to_pylist()).items() if number > 1]
    if twice:
        raise PipelineError(
            f"{len(twice):,} question ids occur in several of its files, such as {twice[0]!r}",
            where=where,
            fix="give every question its own id, or none",
        )
    return found, counts


def _folders(paths: Sequence[Path]) -> dict[Path, str]:
    """Return the folder's name for files of one name in several folders: it is their dataset (nq/train.jsonl)."""
    several = {name for name, number in Counter(path.name for path in paths).items() if number > 1}
    return {path: path.parent.name for path in paths if path.name in several}


def _with_ids(tables: Sequence[pa.Table], paths: Sequence[Path]) -> pa.Table:
    """Return the tables as one. Ids that several datasets repeat get the dataset's name, unless it is only a file's."""
    found = pa.concat_tables(tables)
    ids, datasets = found["question_id"].to_pylist(), found["dataset"].to_pylist()
    repeated = {name for name, number in Counter(ids).items() if number > 1}
    stems = {path.stem for path in paths}
    if not repeated or any(one in stems for name, one in zip(ids, datasets, strict=True) if name in repeated):
        return found
    place = found.schema.get_field_index("question_id")
    named = [f"{dataset}-{name}" for dataset, name in zip(datasets, ids, strict=True)]
    return found.set_column(place, found.schema.field(place), pa.array(named, pa.string()))
