"""Make the questions folder: one Parquet file per split, and report.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.extensions import shipped
from r1_searcher.files import artefacts
from r1_searcher.points import QUESTION_SOURCES
from r1_searcher.questions.overlap import overlap
from r1_searcher.questions.source import QuestionRequest, Splits
from r1_searcher.rewards.metrics import num_compared_exactly

_REPORT_FILE = "report.json"


def run(
    questions: params.Questions, seed: int, corpus: Path, folder: Path, *, least: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Write the questions that ``questions.source`` names into ``folder``, which is replaced whole; returns the report.

    ``corpus`` is the corpus folder, whose facts a world's questions are composed from. ``least``: the minimum number of
    questions per split, because an iteration of training draws so many; with fewer, nothing is written.
    """
    made = _made(questions, QuestionRequest(questions, seed, corpus))
    metadata = made.metadata
    splits, neutralised = _safe(made.tables)
    for name, table in splits.items():
        if table.num_rows == 0:
            raise PipelineError("no question in this split", where=f"questions, {name}")
        if table.num_rows < (asked := (least or {}).get(name, 0)):
            raise PipelineError(
                f"{table.num_rows:,} questions, but an iteration of training asks {asked:,}",
                where=f"questions, {name}",
                fix="more questions, or a smaller questions_an_iteration in train.stage1 and train.stage2",
            )
    report: dict[str, Any] = {
        "source": questions.source,
        "splits": {name: _counts(splits[name]) for name in sorted(splits)},
    }
    for name, number in neutralised.items():
        report["splits"][name]["num_neutralised"] = number
    for name, table in splits.items():
        if number := num_compared_exactly(table["answers"].to_pylist()):
            report["splits"][name]["num_exact_golds"] = number
    for name, counts in made.files.items():
        report["splits"][name]["files"] = counts
    report["overlap_with_train"] = overlap(splits)
    with artefacts.atomic(folder, folder=True) as draft:
        for name, table in splits.items():
            artefacts.write_table(draft / f"{name}.parquet", table, {**metadata, "split": name})
        artefacts.write_json(draft / _REPORT_FILE, report)
    return report


def _made(questions: params.Questions, request: QuestionRequest) -> Splits:
    """Return what the source named by ``questions.source`` makes; only that source is imported."""
    found = QUESTION_SOURCES.find(questions.source, questions.extensions)
    if shipped(found.file):
        made: Splits = found.value(request, None)
        return made
    from r1_searcher.questions.own_source import own_splits

    return own_splits(found, request, questions.parameters_of("source"))


def _safe(splits: Mapping[str, pa.Table]) -> tuple[dict[str, pa.Table], dict[str, int]]:
    """Return the splits without control tokens in questions, and the number of affected questions by split."""
    from r1_searcher.questions.files import without_control

    found = {name: without_control(table) for name, table in splits.items()}
    return {name: table for name, (table, _) in found.items()}, {
        name: count for name, (_, count) in found.items() if count
    }


def _counts(table: pa.Table) -> dict[str, Any]:
    return {
        "num_questions": table.num_rows,
        "datasets": _tally(table, "dataset"),
        "kinds": _tally(table, "kind"),
        "with_supporting_titles": sum(bool(row) for row in table["supporting_titles"].to_pylist()),
    }


def _tally(table: pa.Table, column: str) -> dict[str, int]:
    return dict(Counter(value or "unknown" for value in table[column].to_pylist()))
