"""Score files of answers, with or without transcripts in the release's form: `python -m stages.evaluate score`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from r1_searcher import tables
from r1_searcher.errors import PipelineError
from r1_searcher.rewards import metrics
from r1_searcher.rewards.released import ReleasedRow, first_names, names_of, read_transcripts
from r1_searcher.rewards.rules import Metric, metric_of
from r1_searcher.shown import json_text, show_lines, terminal_width
from r1_searcher.transcripts import grammar

FileScore = dict[str, float | int | None]


_NOT_FURTHER = (
    *("n", "em", "f1", "cover_em", "cover_em_contiguous"),
    *("num_exact_golds", "judge_true", "searches_per_question"),
)
_OFFICIAL = ("em_squad", "f1_squad")  # always scored, beside the paper's


def score_files(
    paths: Sequence[Path | str],
    further: Sequence[str] = (),
    *,
    extensions: Sequence[str] = (),
    questions: Path | None = None,
) -> dict[str, FileScore]:
    """Return ``{file name: {n, em, f1, cover_em, cover_em_contiguous, em_squad, f1_squad, num_exact_golds, judge_true,
    searches_per_question}}``.

    ``further``: the names of more answer metrics, after ``f1_squad``; ``extensions``: the user's files with more;
    ``questions``: the file with the gold answers, for predictions that name their questions by id.

    Rates are fractions. ``num_exact_golds``: gold answers that normalise to nothing and are compared exactly.
    ``judge_true`` is a count, None without verdicts; ``searches_per_question`` is None for plain predictions. Raises
    ``PipelineError`` for rows that cannot be scored.
    """
    chosen = {name: metric_of(name, extensions=extensions) for name in dict.fromkeys((*_OFFICIAL, *further))}
    named = zip(names_of(paths), paths, strict=True)
    return {name: _score(Path(path), chosen, questions) for name, path in named}


def _score(path: Path, chosen: Mapping[str, Metric], questions: Path | None) -> FileScore:
    if questions is None and _are_transcripts(path):
        return _score_rows(read_transcripts(path), chosen)
    # imported here, because transcripts are scored without pyarrow
    from r1_searcher.evaluation.answers_by_id import read_answers
    from r1_searcher.evaluation.predictions import read_predictions

    rows = read_predictions(path) if questions is None else read_answers(path, questions)
    return _metrics([row.prediction for row in rows], [row.golds for row in rows], chosen) | {
        "judge_true": None,
        "searches_per_question": None,
    }


def _are_transcripts(path: Path) -> bool:
    """Return whether the file has transcripts, by the names of its first row."""
    try:
        names = first_names(path)
    except (OSError, ValueError, PipelineError):  # the reader of predictions says what is wrong
        return False
    if "gen_text_store" in names or ("output" in names and "gts" in names):  # the release's, verl's
        return True
    if not ("prompt" in names and "completion" in names):  # TRL's
        return False
    from r1_searcher.evaluation.predictions import PREDICTION_NAMES  # imported here for the same reason

    return not any(name in names for name in PREDICTION_NAMES[1:])  # the first belongs to transcripts too


def _score_rows(rows: Sequence[ReleasedRow], chosen: Mapping[str, Metric]) -> FileScore:
    verdicts = [row.judge for row in rows if row.judge is not None]
    return _metrics([row.prediction for row in rows], [row.golds for row in rows], chosen) | {
        "judge_true": sum(verdicts) if verdicts else None,
        "searches_per_question": _mean([grammar.written_searches(row.transcript.text) for row in rows]),
    }


def _metrics(
    predictions: Sequence[str | None], golds: Sequence[Sequence[str]], chosen: Mapping[str, Metric]
) -> FileScore:
    pairs = list(zip(predictions, golds, strict=True))
    return {
        "n": len(pairs),
        "em": _mean([metrics.em(*pair) for pair in pairs]),
        "f1": _mean([metrics.f1(*pair) for pair in pairs]),
        "cover_em": _mean([metrics.cover_em(*pair) for pair in pairs]),
        "cover_em_contiguous": _mean([metrics.cover_em_contiguous(*pair) for pair in pairs]),
        **{name: _mean([metric(*pair) for pair in pairs]) for name, metric in chosen.items()},
        "num_exact_golds": metrics.num_compared_exactly(golds),
    }


def table(scores: Mapping[str, FileScore], *, width: int | None = None) -> str:
    """Return the scores for a reader: percent to one decimal, the judge's count, searches per question."""
    further = [name for name in next(iter(scores.values())) if name not in _NOT_FURTHER]
    rows = [["file", "n", "EM", "Cover-EM", "contiguous", "F1", *further, "judge true", "searches"]]
    for name, score in scores.items():
        rates = [f"{100 * (score[key] or 0):.1f}" for key in ("em", "cover_em", "cover_em_contiguous", "f1", *further)]
        judge = "-" if score["judge_true"] is None else f"{score['judge_true']} of {score['n']}"
        searches = score["searches_per_question"]
        rows.append([name, str(score["n"]), *rates, judge, "-" if searches is None else f"{searches:.2f}"])
    return tables.text(rows, width=width)


def run(given: argparse.Namespace) -> None:
    """Score ``given.files`` and print the result."""
    scores = score_files(given.files, given.metric, extensions=given.extension, questions=given.questions)
    show_lines(json_text(scores) if given.json else table(scores, width=terminal_width()))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
