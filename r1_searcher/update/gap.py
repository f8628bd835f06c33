"""Check that engine and trainer agree on what the engine sampled with the trainer's own weights.

If they do not, importance ratios, clipping and gradients use other probabilities than those that the tokens were
sampled from, and training silently goes on. Every update measures the gap over policy tokens before any step
(``Arrays.metrics``); this module judges it.
"""

from __future__ import annotations

from collections.abc import Mapping

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params

# For the mean over tokens. Correct pairs of 17 kinds of tiny models differ by 2e-7 to 8e-7 in float32, and by 0.002 to
# 0.024 if one side is bfloat16 (benchmarks/logprob_gaps.py; table in docs/engines.md). Ignored windows, dropout, and
# wrong positions or scales gave 0.05 to several nats.
BOUNDS = {"float32": 1e-3, "bfloat16": 0.1}


def largest_gap(params: Params) -> float:
    """Return the mean gap above which training stops: ``update.max_logprob_gap``, or by the less exact precision."""
    if params.update.max_logprob_gap != "auto":
        return params.update.max_logprob_gap
    return max(BOUNDS[params.rollout.dtype], BOUNDS[params.update.dtype]) / min(1.0, params.rollout.temperature or 1.0)


def check_gap(metrics: Mapping[str, float], allowed: float, *, model: str) -> None:
    """Raise ``PipelineError`` if an update's mean gap is NaN or above ``allowed``.

    Only for rollouts sampled with the weights that the update began with: an older policy has a gap of its own, for
    which the update corrects. Does nothing if no token was trained on.
    """
    gap = metrics.get("logprob_gap_mean")
    if gap is not None and not gap <= allowed:
        raise PipelineError(
            f"engine and trainer differ by {gap:.2g} in the mean log-probability of the same tokens under the same "
            f"weights ({metrics.get('logprob_gap_max', gap):.2g} at most), where {allowed:.2g} is allowed: one of them "
            "computes this model wrongly. The update was discarded; the rollouts are kept",
            where=model,
            fix="use a model that docs/engines.md lists as supported, or another rollout.engine; if the gap is only "
            "rounding, raise update.max_logprob_gap: the run then resumes here",
        )
