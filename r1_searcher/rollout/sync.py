"""Does an engine hold the trainer's weights? Both score the same tokens, and the log-probabilities must agree.

Loading weights can fail without a word: a name that a loader skips, a tied output head that keeps the old
weights, a key-value cache of the weights before. Rollouts of such an engine look like rollouts. So after every
synchronisation a few sequences are scored on both sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r1_searcher.errors import PipelineError
from r1_searcher.types.protocols import Engine


@dataclass(frozen=True)
class Gap:
    """Absolute differences of log-probabilities over the policy tokens of all probes."""

    mean: float
    largest: float

    def within(self, bound: Gap) -> bool:
        """Whether neither exceeds its bound; not so where one is no number."""
        return self.mean <= bound.mean and self.largest <= bound.largest


# Of two right implementations at temperature 1. In float32 they differ by rounding, 1e-6 to 1e-5. In bfloat16 a
# token of low probability may be off by tenths while the mean stays at some hundredths, so the mean decides.
_BOUNDS = {"float32": Gap(1e-4, 2e-3), "bfloat16": Gap(0.06, 2.0)}


def tolerance(dtype: str, temperature: float) -> Gap:
    """How far two right implementations may be apart, by the dtype of the less exact of the two.

    Log-probabilities are of logits divided by the temperature, and so are their errors. In float32 the bound
    also catches weights that are one update old; in bfloat16 a small update hides in the rounding, and what is
    caught are weights that were not loaded, are another model's, or only a part of the right ones.
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
    """Hold an engine's log-probabilities against the trainer's; returns the gap, for the log.

    B probes: ``token_ids[b]`` and ``policy_mask[b]`` (T_b,), ``trainer_logprobs[b]`` (P_b,) of the tokens under
    the mask as ``Trainer.logprobs`` gives them. Any tokens will do; some 100 of them, from several prompts, are
    enough. ``temperature`` is the trainer's. Raises ``PipelineError`` where the gap is more than is ``allowed``.
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
            f"the engine does not hold the trainer's weights: over {len(gaps)} tokens log-probabilities differ by "
            f"{gap.mean:.2g} in the mean and {gap.largest:.2g} at most, where {allowed.mean:.2g} and "
            f"{allowed.largest:.2g} are allowed",
            where=f"engine {engine.name}",
            fix="is the policy folder whole, and of the engine's architecture?",
        )
    return gap
