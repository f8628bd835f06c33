"""The reward of training as verl's reward function: its custom reward function is ``compute_score`` of this file.

verl's own functions are chosen by ``data_source`` and know only a few (``searchR1_nq``, …).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from r1_searcher import params as contract
from r1_searcher.errors import PipelineError
from r1_searcher.golds import NotGold, parse_golds
from r1_searcher.rewards.rules import Rules, rules_from
from r1_searcher.transcripts.grammar import Transcript


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    params_file: str = "params.yaml",
    stage: int = 2,
    **_: Any,
) -> dict[str, float]:
    """Return ``score``, the reward of a transcript after its prompt, and the reward's components by name.

    ``ground_truth``: gold answers in any form of question files. ``params_file`` and ``stage`` are verl's
    ``reward_kwargs``; if the folder has no params.yaml, the defaults count. Raises ``PipelineError`` without a gold
    answer.
    """
    try:
        golds = parse_golds(ground_truth)
    except NotGold as fault:
        raise PipelineError(f"reward_model.ground_truth {fault}", where=data_source) from None
    if not golds:
        raise PipelineError("reward_model.ground_truth contains no answer", where=data_source)
    question = str((extra_info or {}).get("question") or "")
    scored = _rules(params_file).score(Transcript(solution_str), golds, stage, question=question)
    return {"score": scored.total, **scored.components}


@lru_cache(maxsize=8)
def _rules(params_file: str) -> Rules:
    return rules_from(contract.load_or_shipped(params_file).reward)
