"""Pair two evaluated policies by question: read files, compare protocol cards, align rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from r1_searcher.errors import PipelineError, Refused
from r1_searcher.files.artefacts import read_metadata, read_table
from r1_searcher.protocol_card import differences
from r1_searcher.rewards.metrics import CREDIT_PARTS
from r1_searcher.transcripts import grammar

ASKED = ("question_id", "question", "answers", "prediction")  # the columns shown of a row, besides the metrics
_COMPARISON = "comparison"  # judged by EM: F1 and cover would credit naming both options


@dataclass(frozen=True)
class Evaluated:
    """One policy's answers to one benchmark: a file that `run` wrote."""

    path: Path
    benchmark: str
    card: Mapping[str, Any]
    kinds: Sequence[str]
    table: pa.Table


@dataclass(frozen=True)
class Pair:
    """Answers of two policies to the same questions.

    ``reference`` and ``candidate`` are rows (N) in one order, as dictionaries of ``ASKED``; the values are (N, M) in
    [0, 1]. ``apart``: lines in which the cards differ.
    """

    benchmark: str
    metrics: Sequence[str]
    reference: Sequence[Mapping[str, Any]]
    candidate: Sequence[Mapping[str, Any]]
    reference_values: np.ndarray
    candidate_values: np.ndarray
    apart: Sequence[str]
    identical: bool  # the same weights gave the same answers: nothing is left to chance
    lost: tuple[int, int] = (0, 0)  # questions of reference and candidate lost to failed searches or tools


def read_evaluated(*places: Path) -> dict[str, Evaluated]:
    """Return evaluations by benchmark; each place is a folder with one Parquet file per benchmark, or a single file.

    Raises ``PipelineError`` for a place without an evaluation, and for a file without a protocol card, a column or a
    row.
    """
    files: list[Path] = []
    for place in places:
        here = [place] if place.is_file() else sorted(place.glob("*.parquet"))
        if not here:
            what = "no evaluation here" if place.is_dir() else "no such file or folder"
            fix = "give a folder with one Parquet file per benchmark, or one file"
            raise PipelineError(what, where=str(place), fix=fix)
        files += here
    found: dict[str, Evaluated] = {}
    for file in files:
        table = read_table(file)
        metadata = read_metadata(file)
        if "card" not in metadata:
            raise PipelineError("no protocol card in this file", where=str(file), fix="evaluate the policy again")
        missing = [name for name in ASKED if name not in table.column_names]
        if missing:
            raise PipelineError(f"column {missing[0]!r} is missing", where=str(file), fix="evaluate the policy again")
        if table.num_rows == 0:
            raise PipelineError("an evaluation without questions", where=str(file))
        benchmark = str(metadata["card"].get("benchmark", file.stem))
        found[benchmark] = Evaluated(file, benchmark, metadata["card"], metadata.get("kinds", []), table)
    return found


def pair_policies(
    reference: Mapping[str, Evaluated],
    candidate: Mapping[str, Evaluated],
    metrics: Sequence[str],
    *,
    names: tuple[str, str],
    benchmarks: Sequence[str] = (),
    even_so: bool = False,
    fix: str | None = None,
) -> list[Pair]:
    """Return the pairs of two evaluated policies, one per benchmark; all benchmarks, or those of ``benchmarks``.

    ``names`` name the two in errors. Raises ``Refused`` with the lines if the cards differ, unless ``even_so``; ``fix``
    is the remedy to name. Raises ``PipelineError`` for a benchmark or question that only one of them has.
    """
    for benchmark in benchmarks or {**reference, **candidate}:
        for name, found in zip(names, (reference, candidate), strict=True):
            if benchmark not in found:
                raise PipelineError(
                    f"no benchmark {benchmark!r} here, only {', '.join(found)}",
                    where=name,
                    fix="evaluate both policies on the same benchmarks, or name those to compare with --benchmark",
                )
    order = benchmarks or list(reference)
    return [pair(reference[name], candidate[name], metrics, even_so=even_so, fix=fix) for name in order]


def pair(
    reference: Evaluated, candidate: Evaluated, metrics: Sequence[str], *, even_so: bool = False, fix: str | None = None
) -> Pair:
    """Pair one benchmark's rows by question."""
    apart = differences(reference.card, candidate.card)
    if apart and not even_so:
        raise Refused(
            f"{reference.benchmark} was measured under another protocol than in {reference.path}: {'; '.join(apart)}",
            where=str(candidate.path),
            fix=fix or "evaluate both with the same parameters, or compare them --even-so",
        )
    names = metrics_of(metrics, set(reference.kinds) | set(candidate.kinds))
    rows, others = _by_question(reference), _by_question(candidate)
    _same_questions(reference, rows, candidate, others)
    order = list(rows)
    left, right = [rows[key] for key in order], [others[key] for key in order]
    left_values, right_values = _values(reference, left, names), _values(candidate, right, names)
    weights = reference.card.get("policy_sha256")
    identical = (
        weights is not None
        and weights == candidate.card.get("policy_sha256")
        and [row["prediction"] for row in left] == [row["prediction"] for row in right]
        and bool((left_values == right_values).all())
    )
    lost = (_num_lost(left), _num_lost(right))
    return Pair(reference.benchmark, names, left, right, left_values, right_values, apart, identical, lost)


def _num_lost(rows: Sequence[Mapping[str, Any]]) -> int:
    return sum(row.get("finish_reason") in grammar.LOST_FINISHES for row in rows)


def metrics_of(metrics: Sequence[str], kinds: set[str]) -> list[str]:
    """Return the metrics that are meaningful for questions of these kinds."""
    return [name for name in metrics if kinds != {_COMPARISON} or name not in CREDIT_PARTS]


def _by_question(found: Evaluated) -> dict[str, dict[str, Any]]:
    rows = found.table.to_pylist()
    counts = Counter(row["question_id"] for row in rows)
    key, number = counts.most_common(1)[0]
    if number > 1:
        raise PipelineError(f"question {key!r} occurs {number} times", where=str(found.path))
    return {row["question_id"]: row for row in rows}


def _same_questions(one: Evaluated, rows: Mapping[str, Any], other: Evaluated, others: Mapping[str, Any]) -> None:
    for has, here, lacks, there in ((one, rows, other, others), (other, others, one, rows)):
        missing = [key for key in here if key not in there]
        if missing:
            raise PipelineError(
                f"{len(missing)} of the {len(here)} questions of {has.path} are missing, the first {missing[0]!r}",
                where=str(lacks.path),
                fix="a paired comparison needs the same questions: evaluate both on the same benchmark",
            )


def _values(found: Evaluated, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> np.ndarray:
    """Return the metrics' values (N, M) in [0, 1]."""
    columns = []
    for name in names:
        if name not in found.table.column_names:
            raise PipelineError(
                f"no metric {name!r}", where=str(found.path), fix=f"columns: {', '.join(found.table.column_names)}"
            )
        values = [row[name] for row in rows]
        wrong = [value for value in values if not isinstance(value, int | float) or not 0 <= value <= 1]
        if wrong:
            raise PipelineError(
                f"metric {name!r} has a value outside of [0, 1]: {wrong[0]!r}",
                where=str(found.path),
                fix="regression.metrics names columns with values in [0, 1]",
            )
        columns.append(np.asarray(values, dtype=np.float64))
    return np.stack(columns, axis=1)
