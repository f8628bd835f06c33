"""Evaluate one policy from your own program; the library's `r1-searcher evaluate run`."""

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
    """Answer questions greedily and write ``out``/BENCHMARK.parquet, the input of ``compare_evaluations`` and
    summaries.

    Args:
        policy: a model folder.
        questions: a Parquet file of questions (schema QUESTIONS) by benchmark.
        index: the folder of the index to search.
        params: None: the built-in ones.
        name: the policy's name on the protocol card.
        mode: ``search`` as trained; ``no_search``, ``plain_rag`` and ``ircot`` are the baselines (docs/baselines.md).
        limit: use only the first questions of each benchmark; None: all.

    Returns a row per benchmark: its name, the number of questions ``n``, ``em`` and ``cover_em``, the number of
    questions ``lost`` to a failed search (counted as wrong), seconds. Raises
    ``PipelineError`` for a missing or broken policy, index or question file.
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
