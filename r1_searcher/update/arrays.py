"""An update's arrays, one slot per policy token of the batch, and their metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from r1_searcher.types.arrays import Ints
from r1_searcher.update import losses


@dataclasses.dataclass
class Arrays:
    """Arrays (P,) over all policy tokens of the batch; the passes fill the last two."""

    engine_old: Tensor  # the engine's log-probabilities at sampling
    trainer_old: Tensor | None  # the trainer's before the first step, if a minibatch needs them
    advantages: Tensor
    weights: Tensor  # of the loss, for the current minibatch
    new: Tensor  # the trainer's log-probabilities in the training pass
    entropy: Tensor

    def metrics(
        self, minibatches: Sequence[Sequence[int]], offsets: Ints, *, clip: float, cap: float
    ) -> dict[str, float]:
        """Return metrics over the policy tokens of the minibatches' trajectories (slots from ``offsets[b]`` on).

        Empty without trajectories. The first minibatch, before any step, shows the gap to the engine.
        """
        slots = [_slots(members, offsets, self.new) for members in minibatches]
        everything, first = torch.cat(slots).sort().values, slots[0]
        if not len(everything):
            return {}
        new, engine_old, entropy = (one[everything] for one in (self.new, self.engine_old, self.entropy))
        advantages = self.advantages[everything]
        metrics = {"entropy": entropy.double().mean().item()}
        if cap == 0:
            metrics |= losses.ratio_metrics(new, engine_old, advantages, clip)
            return metrics | (losses.gap_metrics(self.new[first], self.engine_old[first]) if len(first) else {})
        old = self.new.clone() if self.trainer_old is None else self.trainer_old
        old[first] = self.new[first]
        old = old[everything]
        metrics |= losses.ratio_metrics(new, old, advantages, clip)
        return metrics | losses.gap_metrics(old, engine_old) | losses.importance_metrics(old, engine_old, cap)


def _slots(members: Sequence[int], offsets: Ints, like: Tensor) -> Tensor:
    ranges = [torch.arange(offsets[b], offsets[b + 1], device=like.device) for b in members]
    return torch.cat(ranges) if ranges else torch.zeros(0, dtype=torch.long, device=like.device)
