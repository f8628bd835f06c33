"""Check that log-probabilities are finite: one NaN in a policy's weights makes all of its logits NaN."""

from __future__ import annotations

import math
from collections.abc import Iterable

from r1_searcher.errors import PipelineError


def check_finite_logprobs(logprobs: Iterable[float], engine: str) -> None:
    """Raise ``PipelineError`` if a sampled token's log-probability is not finite."""
    if not all(map(math.isfinite, logprobs)):
        raise PipelineError(
            "the policy's logits are not numbers: its weights hold NaN or infinities, or overflow in this precision",
            where=f"engine {engine}",
            fix="choose another policy: import the base model again, or go back to an earlier checkpoint of training; "
            "or rollout.dtype: float32",
        )
