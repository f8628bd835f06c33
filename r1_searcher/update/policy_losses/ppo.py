"""PPO's clipped loss (arXiv 1707.06347, equation 7), which the paper uses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from r1_searcher.extend import policy_loss

if TYPE_CHECKING:
    from torch import Tensor

    from r1_searcher.params import Update


@policy_loss("ppo")
def ppo(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, settings: Update) -> Tensor:
    """Return the loss per token, clipped at ``settings.clip``: (N,), (N,), (N,) -> (N,)."""
    ratio = (logprobs - old_logprobs).exp()  # (N,)
    clipped = ratio.clamp(1.0 - settings.clip, 1.0 + settings.clip)  # (N,)
    return -(ratio * advantages).minimum(clipped * advantages)
