"""An update's numbers, a slot a policy token of the batch, and the metrics of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from r1_searcher.types.arrays import Ints
from r1_searcher.update import losses


@dataclasses.dataclass
class Arrays:
    """Each (P,) over all policy tokens of the batch; the last two are filled by its passes."""

    engine_old: Tensor  # the engine's log-probabilities, when it sampled
    trainer_old: Tensor | None  # the trainer's before the first step, where a minibatch needs them
    advantages: Tensor
    weights: Tensor  # of the loss, for the present minibatch
    new: Tensor  # the trainer's log-probabilities in the training pass
    entropy: Tensor

    def metrics(
        self, minibatches: Sequence[Sequence[int]], offsets: Ints, *, clip: float, cap: float
    ) -> dict[str, float]:
        """Metrics over the policy tokens of the minibatches' trajectories (slots from ``offsets[b]`` on); none where
        there are no trajectories. Those of the first minibatch, before which no step was, show the gap to the engine.
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
