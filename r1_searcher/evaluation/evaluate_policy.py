"""Evaluate one policy from a program of one's own: what `r1-searcher evaluate run` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from r1_searcher.evaluation.run import run
from r1_searcher.params import Params, shipped
from r1_searcher.transcripts.grammar import Mode


def evaluate_policy(
    policy: Path | str,
    questions: Mapping[str, Path | str],
    out: Path | str,
    *,
    index: Path | str,
    params: Params | None = None,
    name: str = "policy",
    mode: Mode = "search",
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Answer questions greedily; write ``out``/BENCHMARK.parquet, which ``compare_evaluations`` and summaries read.

    Args:
        policy: a model folder.
        questions: a Parquet file of questions (schema QUESTIONS) by benchmark.
        index: the folder of the index that is searched.
        params: None: those that are shipped.
        name: of the policy, on the protocol card.
        mode: ``search`` as trained; ``no_search``, ``plain_rag`` and ``ircot`` are the baselines (docs/baselines.md).
        limit: at most so many questions per benchmark, the first ones; None: all.

    Returns a row per benchmark: its name, the number of questions ``n``, ``em`` and ``cover_em``, seconds. Raises
    ``PipelineError`` for a policy, an index or questions that are missing or broken.
    """
    files = {benchmark: Path(file) for benchmark, file in questions.items()}
    made = run(
        name=name,
        mode=mode,
        policy=Path(policy),
        files=files,
        index=Path(index),
        corpus=None,
        out=Path(out),
        params=params or shipped(),
        limit=limit,
    )
    return [{key: value for key, value in row.items() if key != "asked"} for row in made]
