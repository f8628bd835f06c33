"""Scores of transcript files as the release has them: what `python -m stages.evaluate score` prints."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from r1_searcher import tables
from r1_searcher.rewards import metrics
from r1_searcher.rewards.released import ReleasedRow, names_of, read_transcripts
from r1_searcher.shown import json_text, show_lines, terminal_width
from r1_searcher.transcripts import grammar

FileScore = dict[str, float | int | None]


def score_files(paths: Sequence[Path | str]) -> dict[str, FileScore]:
    """``{file name: {n, em, f1, cover_em, cover_em_contiguous, judge_true, searches_per_question}}``.

    Rates are fractions. ``judge_true`` is a count, None where no row has a verdict.
    """
    return {name: score_rows(read_transcripts(path)) for name, path in zip(names_of(paths), paths, strict=True)}


def score_rows(rows: Sequence[ReleasedRow]) -> FileScore:
    """Return the means over the rows of one file (at least one)."""
    verdicts = [row.judge for row in rows if row.judge is not None]
    return {
        "n": len(rows),
        "em": _mean([metrics.em(row.prediction, row.golds) for row in rows]),
        "f1": _mean([metrics.f1(row.prediction, row.golds) for row in rows]),
        "cover_em": _mean([metrics.cover_em(row.prediction, row.golds) for row in rows]),
        "cover_em_contiguous": _mean([metrics.cover_em_contiguous(row.prediction, row.golds) for row in rows]),
        "judge_true": sum(verdicts) if verdicts else None,
        "searches_per_question": _mean([grammar.written_searches(row.transcript.text) for row in rows]),
    }


def table(scores: Mapping[str, FileScore], *, width: int | None = None) -> str:
    """Return the scores for a reader: percent to one decimal, the judge's count, searches per question."""
    rows = [["file", "n", "EM", "Cover-EM", "contiguous", "F1", "judge true", "searches"]]
    for name, score in scores.items():
        rates = [f"{100 * (score[key] or 0):.1f}" for key in ("em", "cover_em", "cover_em_contiguous", "f1")]
        judge = "-" if score["judge_true"] is None else f"{score['judge_true']} of {score['n']}"
        rows.append([name, str(score["n"]), *rates, judge, f"{score['searches_per_question']:.2f}"])
    return tables.text(rows, width=width)


def run(given: argparse.Namespace) -> None:
    """Score ``given.files`` and print the result."""
    scores = score_files(given.files)
    show_lines(json_text(scores) if given.json else table(scores, width=terminal_width()))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
