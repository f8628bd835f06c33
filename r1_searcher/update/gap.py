"""Engine and trainer have to agree on what the engine sampled with the trainer's own weights.

Where they do not, importance ratios, clipping and gradients stand on other probabilities than those that the tokens
were drawn from, and training goes on without a word. The gap is measured at every update (``Arrays.metrics``), over
policy tokens before any step: here it is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping

from r1_searcher.errors import PipelineError
from r1_searcher.params import Params

# Of the mean over tokens. Right pairs of 17 kinds of tiny models are at 2e-7 to 8e-7 in float32, and at 0.002 to 0.024
# where one side is bfloat16 (benchmarks/logprob_gaps.py; the table is in docs/engines.md). Windows that are not kept,
# dropout, and positions or scales that are other ones gave 0.05 to several nats.
BOUNDS = {"float32": 1e-3, "bfloat16": 0.1}


def largest_gap(params: Params) -> float:
    """The mean gap above which training stops: ``update.max_logprob_gap``, or of the less exact of both precisions."""
    if params.update.max_logprob_gap != "auto":
        return params.update.max_logprob_gap
    return max(BOUNDS[params.rollout.dtype], BOUNDS[params.update.dtype]) / min(1.0, params.rollout.temperature or 1.0)


def check_gap(metrics: Mapping[str, float], allowed: float, *, model: str) -> None:
    """``PipelineError`` where the mean gap of an update is above ``allowed``, or no number.

    Only for rollouts that were sampled with the weights that the update began with: a policy that is behind has a gap
    of its own, for which the update corrects. Nothing is looked at where no token was trained on.
    """
    gap = metrics.get("logprob_gap_mean")
    if gap is not None and not gap <= allowed:
        raise PipelineError(
            f"engine and trainer differ by {gap:.2g} in the mean log-probability of the same tokens under the same "
            f"weights ({metrics.get('logprob_gap_max', gap):.2g} at most), where {allowed:.2g} is allowed: one of them "
            "computes this model wrongly. The update was not kept; what was sampled is",
            where=model,
            fix="use a model that docs/engines.md names as known good, or another rollout.engine; if the gap is only "
            "rounding, raise update.max_logprob_gap: the run then goes on from here",
        )
