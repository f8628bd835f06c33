"""An update's numbers, a slot a policy token of the batch, and the metrics of them."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from stages.update import losses


@dataclasses.dataclass
class Arrays:
    """Each (P,) over all policy tokens of the batch; the last two are filled by its passes."""

    engine_old: Tensor  # the engine's log-probabilities, when it sampled
    trainer_old: Tensor | None  # the trainer's before the first step, where a minibatch needs them
    advantages: Tensor
    weights: Tensor  # of the loss, for the present minibatch
    new: Tensor  # the trainer's log-probabilities in the training pass
    entropy: Tensor

    def metrics(self, first: Tensor, *, clip: float, cap: float) -> dict[str, float]:
        """Metrics over policy tokens; ``first`` are the slots of the first minibatch, before which no step was."""
        metrics = {"entropy": self.entropy.double().mean().item()}
        if cap == 0:
            metrics |= losses.ratio_metrics(self.new, self.engine_old, self.advantages, clip)
            return metrics | losses.gap_metrics(self.new[first], self.engine_old[first])
        old = self.new.clone() if self.trainer_old is None else self.trainer_old
        old[first] = self.new[first]
        metrics |= losses.ratio_metrics(self.new, old, self.advantages, clip)
        return metrics | losses.gap_metrics(old, self.engine_old) | losses.importance_metrics(old, self.engine_old, cap)
