"""The answer metrics of ``evaluate.metrics``: columns of an evaluation beside EM, F1 and Cover-EM."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from r1_searcher.extensions import shipped
from r1_searcher.files.artefacts import fingerprint, sha256_file
from r1_searcher.params import Evaluate, Params
from r1_searcher.rewards.rules import Metric
from r1_searcher.transcripts.scripts import PAPER, in_words

# Heading and meaning of the built-in ones; a user's own is headed by its name.
_WORDS = {
    "em_squad": ("EM (SQuAD)", "exact match as the official scripts of SQuAD and HotpotQA define it"),
    "f1_squad": ("F1 (SQuAD)", "token overlap as the official script of HotpotQA defines it"),
    "em_chars": ("EM (characters)", "equal to a gold answer, character by character"),
    "f1_chars": ("F1 (characters)", "character overlap with the gold answer"),
    "cover_chars": ("Cover (characters)", "the gold answer's characters occur in the answer one after another"),
}


def chosen_metrics(evaluate: Evaluate) -> dict[str, Metric]:
    """Return the metrics of ``evaluate.metrics`` by name, ready to score."""
    return {
        name: Metric(evaluate.found("metrics", name), evaluate.parameters_of("metrics", name))
        for name in evaluate.metrics
    }


def with_metrics(table: pa.Table, metrics: Mapping[str, Metric]) -> pa.Table:
    """Return an evaluation (N rows) with a further column per metric. Raises ``PipelineError`` for a user's metric that
    raises or returns no finite number."""
    rows = table.select(["question_id", "prediction", "answers"]).to_pylist()
    for name, metric in metrics.items():
        values = [metric(row["prediction"], row["answers"], f"question {row['question_id']}") for row in rows]
        table = table.append_column(name, pa.array(values, pa.float64()))
    return table


def card_lines(params: Params, metrics: Mapping[str, Metric]) -> dict[str, Any]:
    """Return the protocol card's further lines: code and parameters of metrics of the user's own (the built-in ones are
    under the card's version of the metrics), and the rule on scripts if it is not the paper's."""
    scripts = params.reward.scripts
    others = {} if scripts == PAPER else {"scripts": in_words(scripts)}
    return others | {
        f"metric_{name}": fingerprint(
            [sha256_file(metric.found.file), metric.parameters and metric.parameters.model_dump(mode="json")]
        )
        for name, metric in metrics.items()
        if not shipped(metric.found.file)
    }


def words(figures: Iterable[str], known: Iterable[str]) -> list[tuple[str, str, str]]:
    """Return key, heading and meaning of every further metric among a benchmark's ``figures``.

    They are the figures with an interval that are not ``known``: the columns that a table has anyway.
    """
    names, others = dict.fromkeys(figures), {*known}
    further = [name for name in names if name not in others and f"{name}_ci" in names]
    return [(name, *_WORDS.get(name, (name, "an answer metric of your own"))) for name in further]
