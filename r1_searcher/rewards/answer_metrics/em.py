"""Exact match, as a reward of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher.extend import answer_metric
from r1_searcher.rewards import metrics


@answer_metric("em")
def em(prediction: str | None, golds: Sequence[str]) -> float:
    """Return exact match as ``r1_searcher.rewards.metrics`` measures it."""
    return metrics.em(prediction, golds)
