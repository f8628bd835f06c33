"""The policy as the trainer sees it: log-probabilities and entropies of a pass's policy tokens."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from r1_searcher.types.model_config import scaled
from r1_searcher.update import attention
from r1_searcher.update.packing import Pass


class TokenPolicy(nn.Module):
    """A causal language model whose output head is applied only where a policy token is predicted.

    Args:
        model: a transformers causal language model whose logits are its output embedding applied to the
            last hidden state, scaled as its configuration says (``model_config.scaled``).
        temperature: divides the logits, so that the policy trained is the policy that sampled.
    """

    def __init__(self, model: Any, temperature: float) -> None:
        super().__init__()
        self.model = model
        self.temperature = temperature

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor | None,
        predict: Tensor,
        targets: Tensor,
        lengths: tuple[int, ...] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(R, T), (R, T) or None, (N,), (N,) -> log-probabilities (N,), entropies (N,) without gradient.

        ``lengths``: of a packed row's trajectories; their sum is T.
        """
        body = self.model.get_decoder()
        blocks = attention.arguments(lengths, self.model.config._attn_implementation, input_ids.device)
        found = body(input_ids=input_ids, position_ids=position_ids, use_cache=False, **blocks)
        hidden = found.last_hidden_state  # (R, T, D)
        chosen = hidden.flatten(0, 1).index_select(0, predict)  # (N, D)
        logits = scaled(self.model.get_output_embeddings()(chosen).float(), self.model.config)  # (N, V)
        if self.temperature != 1.0:
            logits = logits / self.temperature
        logprobs, entropies = _TokenLogprobs.apply(logits, targets)  # type: ignore[no-untyped-call]
        return logprobs, entropies


class _TokenLogprobs(torch.autograd.Function):
    """log softmax(logits)[target] and the entropy, keeping one (N, V) array and making one in the backward pass.

    The plain composition makes four, which over a vocabulary are most of the head's cost on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        log_all = logits.log_softmax(-1)  # (N, V)
        probabilities = log_all.exp()  # (N, V)
        entropy = -torch.linalg.vecdot(probabilities, log_all)  # (N,)
        ctx.save_for_backward(probabilities, targets)
        ctx.mark_non_differentiable(entropy)
        return log_all.gather(-1, targets[:, None]).squeeze(-1), entropy

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        probabilities, targets = ctx.saved_tensors
        gradient = probabilities * -grad[:, None]  # (N, V)
        gradient.scatter_add_(-1, targets[:, None], grad[:, None])
        return gradient, None


def run_pass(policy: nn.Module, batch: Pass, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return log-probabilities (N,) and entropies (N,) of a pass's policy tokens."""
    positions = None if batch.position_ids is None else torch.from_numpy(batch.position_ids).to(device)
    ids, predict, targets = (
        torch.from_numpy(array).to(device) for array in (batch.input_ids, batch.predict, batch.targets)
    )
    logprobs, entropies = policy(ids, positions, predict, targets, batch.lengths)
    return logprobs, entropies
