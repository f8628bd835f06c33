"""Check that an engine holds the trainer's weights: both score the same tokens, and the results must agree.

Loading weights can fail silently: a loader skips a name, a tied output head keeps the old weights, a key-value cache
survives. Rollouts from such an engine look normal. So after every synchronisation a few sequences are scored on both
sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_searcher.errors import PipelineError
from r1_searcher.types.protocols import Engine


@dataclass(frozen=True)
class Gap:
    """Absolute differences of log-probabilities over all probes' policy tokens."""

    mean: float
    largest: float

    def within(self, bound: Gap) -> bool:
        """Whether mean and largest are within ``bound``; false for NaN."""
        return self.mean <= bound.mean and self.largest <= bound.largest


# For two correct implementations at temperature 1. In float32 they differ by rounding, 1e-6 to 1e-5. In bfloat16 a
# token of low probability may be off by tenths while the mean stays at some hundredths, so the mean decides.
_BOUNDS = {"float32": Gap(1e-4, 2e-3), "bfloat16": Gap(0.06, 2.0)}


def tolerance(dtype: str, temperature: float) -> Gap:
    """Return how far two correct implementations may differ, by the less exact dtype of the two.

    Logits are divided by the temperature, and so are their errors. In float32 the bound also catches weights that are
    one update old. In bfloat16 rounding hides a small update; the bound then catches weights that were not loaded, only
    partly loaded, or another model's.
    """
    if dtype not in _BOUNDS:
        raise PipelineError(f"no tolerance is known for {dtype}", where="rollout.dtype", fix="float32 or bfloat16")
    bound, scale = _BOUNDS[dtype], temperature or 1.0
    return Gap(bound.mean / scale, bound.largest / scale)


def check_sync(
    engine: Engine,
    token_ids: Sequence[Sequence[int]],
    policy_mask: Sequence[Sequence[bool]],
    trainer_logprobs: Sequence[Sequence[float]],
    *,
    temperature: float,
    allowed: Gap,
) -> Gap:
    """Compare an engine's log-probabilities with the trainer's; return the gap, for the log.

    B probes: ``token_ids[b]`` and ``policy_mask[b]`` are (T_b,); ``trainer_logprobs[b]`` is (P_b,), for the tokens
    under the mask, as from ``Trainer.logprobs``. Any tokens will do: about 100 from several prompts are enough.
    ``temperature`` is the trainer's. Raises ``PipelineError`` if the gap exceeds ``allowed``.
    """
    scores = engine.score(token_ids, temperature=temperature)
    gaps = []
    for found, mask, expected in zip(scores, policy_mask, trainer_logprobs, strict=True):
        own = [value for value, policy in zip(found, mask, strict=True) if policy]
        gaps += [abs(ours - theirs) for ours, theirs in zip(own, expected, strict=True)]
    assert gaps, "no probe has a policy token"
    gap = Gap(float(np.mean(gaps)), float(np.max(gaps)))
    if not gap.within(allowed):
        raise PipelineError(
            f"the engine does not have the trainer's weights: over {len(gaps)} tokens log-probabilities differ by "
            f"{gap.mean:.2g} on average and {gap.largest:.2g} at most, where {allowed.mean:.2g} and "
            f"{allowed.largest:.2g} are allowed",
            where=f"engine {engine.name}",
            fix="is the policy folder whole, and of the engine's architecture?",
        )
    return gap
