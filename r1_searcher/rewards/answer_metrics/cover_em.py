"""Cover-EM, the paper's ACC_R, as a reward of the answer."""

from __future__ import annotations

from collections.abc import Sequence

from r1_searcher.extend import answer_metric
from r1_searcher.rewards import metrics


@answer_metric("cover_em")
def cover_em(prediction: str | None, golds: Sequence[str]) -> float:
    """Return Cover-EM as ``r1_searcher.rewards.metrics`` measures it."""
    return metrics.cover_em(prediction, golds)
