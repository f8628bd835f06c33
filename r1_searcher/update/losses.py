"""The update's loss and its metrics, as pure functions over policy tokens.

Every tensor is flat, (N,) over policy tokens; which trajectory a token belongs to matters only to ``loss_weights``. A
pass's loss is the weighted sum over its tokens, with weights that are constant for the whole minibatch, so that the
gradient does not depend on how trajectories are cut into passes.

A policy loss (``update.loss``; the built-in ones are in ``policy_losses``) compares the current policy with an anchor:

- importance correction off (cap 0): the anchor is the engine's log-probability at sampling. Only the training pass is
  needed.
- importance correction on: the anchor is the trainer's own log-probability before the first optimiser step, and the
  token's loss is multiplied by min(exp(trainer - engine), cap), without gradient (truncated importance sampling, Yao et
  al. 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

from r1_searcher.errors import PipelineError
from r1_searcher.params import Update

if TYPE_CHECKING:
    from torch import Tensor

    PolicyLoss = Callable[[Tensor, Tensor, Tensor, Update], Tensor]  # logprobs, old, advantages, each (N,) -> (N,)


def loss_weights(
    num_tokens: Sequence[int],
    loss_mean: Literal["trajectory", "token"],
    *,
    batch_tokens: int,
    minibatches: int,
) -> list[float]:
    """Return the loss weight per policy token of a minibatch's trajectories: numbers of tokens (B,) -> (B,).

    ``trajectory``: mean over a trajectory's tokens, then over the minibatch's trajectories. ``token``: sum over tokens
    divided by a constant, the whole batch's number of policy tokens (``batch_tokens``) over the number of minibatches,
    so that a trajectory's weight is its length, whichever minibatch it is in.
    """
    if loss_mean == "trajectory":
        return [1.0 / (tokens * len(num_tokens)) for tokens in num_tokens]
    return [minibatches / batch_tokens] * len(num_tokens)


def token_losses(loss: PolicyLoss, logprobs: Tensor, anchor: Tensor, advantages: Tensor, settings: Update) -> Tensor:
    """Apply ``loss`` per token: (N,), (N,), (N,) -> (N,). Raises ``PipelineError`` if the result is of another kind."""
    import torch

    token = loss(logprobs, anchor, advantages, settings)
    if not isinstance(token, torch.Tensor) or token.shape != logprobs.shape or not token.requires_grad:
        said = f"shape {tuple(token.shape)}" if isinstance(token, torch.Tensor) else type(token).__name__
        raise PipelineError(
            f"the policy loss returned {said}, not a tensor with a gradient and a number for each of "
            f"{len(logprobs)} policy tokens",
            where=f"update.loss {settings.loss}",
        )
    return token


def importance_weights(trainer_logprobs: Tensor, engine_logprobs: Tensor, cap: float) -> Tensor:
    """Return truncated importance weights min(exp(trainer - engine), cap), without gradient: (N,), (N,) -> (N,)."""
    return (trainer_logprobs - engine_logprobs).detach().exp().clamp(max=cap)


def kl_k1(logprobs: Tensor, other: Tensor) -> Tensor:
    """Estimate KL(policy || other) per token on the policy's own samples: log pi - log other. (N,) -> (N,)."""
    return logprobs - other


def kl_k3(logprobs: Tensor, other: Tensor) -> Tensor:
    """Estimate the same, never negative and with lower variance: r - 1 - log r, r = other / pi. (N,) -> (N,)."""
    log_ratio = other - logprobs
    return log_ratio.expm1() - log_ratio


def ratio_metrics(logprobs: Tensor, anchor: Tensor, advantages: Tensor, clip: float) -> dict[str, float]:
    """Return the clip fraction, the ratio's tails, and the KL to the policy that sampled; all inputs (N,).

    ``clip_fraction`` counts tokens whose gradient is clipped away: the ratio is past the edge on the side to which the
    advantage pushes.
    """
    import torch

    ratio = (logprobs - anchor).exp()
    cut = ((ratio > 1 + clip) & (advantages > 0)) | ((ratio < 1 - clip) & (advantages < 0))
    return {
        "clip_fraction": cut.double().mean().item(),
        "ratio_max": ratio.max().item(),
        "ratio_min": ratio.min().item(),
        "ratio_p99": torch.quantile(ratio.double(), 0.99).item() if len(ratio) < 2**24 else float(ratio.max()),
        "kl_old_k1": kl_k1(anchor, logprobs).double().mean().item(),
        "kl_old_k3": kl_k3(anchor, logprobs).double().mean().item(),
    }


def gap_metrics(trainer_logprobs: Tensor, engine_logprobs: Tensor) -> dict[str, float]:
    """Return how far trainer and engine disagree about the same tokens under the same weights; inputs (N,)."""
    gap = (trainer_logprobs - engine_logprobs).abs().double()
    return {"logprob_gap_mean": gap.mean().item(), "logprob_gap_max": gap.max().item()}


def importance_metrics(trainer_logprobs: Tensor, engine_logprobs: Tensor, cap: float) -> dict[str, float]:
    """Return the largest importance weight before truncation and the truncated share; inputs (N,)."""
    ratios = (trainer_logprobs - engine_logprobs).exp()
    return {
        "importance_ratio_max": ratios.max().item(),
        "importance_truncated": (ratios > cap).double().mean().item(),
    }
