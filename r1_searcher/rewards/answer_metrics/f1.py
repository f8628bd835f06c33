"""F1 over the tokens, as a reward of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher.extend import answer_metric
from r1_searcher.rewards import metrics


@answer_metric("f1")
def f1(prediction: str | None, golds: Sequence[str]) -> float:
    """Return F1 as ``r1_searcher.rewards.metrics`` measures it."""
    return metrics.f1(prediction, golds)
