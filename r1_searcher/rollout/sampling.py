"""Sample tokens by inverse transform, with one uniform number per row and position, fixed by the row's seed.

A trajectory's draws thus do not depend on the rest of its batch. Also scores given tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from r1_searcher.types.model_config import scaled

HEAD_POSITIONS = 1024  # positions per chunk: the logits of a long sequence would take gigabytes


def uniforms(seed: int, positions: int) -> torch.Tensor:
    """Return one trajectory's uniform numbers in [0, 1), (positions,)."""
    return torch.from_numpy(np.random.default_rng(seed).random(positions, dtype=np.float32))


def draw(
    logits: torch.Tensor, uniform: torch.Tensor, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample tokens (B,) and their log-probabilities (B,) from logits (B, V) and uniform numbers (B,).

    Log-probabilities are of the temperature-scaled policy before top-p. Temperature 0 is greedy, with log-probabilities
    at temperature 1.
    """
    if temperature == 0:
        logprobs = logits.log_softmax(-1)
        tokens = logits.argmax(-1)
        return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]
    logprobs = (logits / temperature).log_softmax(-1)  # (B, V)
    probabilities = logprobs.exp()
    if top_p < 1:
        probabilities = _nucleus(probabilities, top_p)
    cumulative = probabilities.cumsum(-1)
    # Scaled by the sum, which rounding and top-p leave below 1; the clamp covers its last bit.
    wanted = uniform[:, None] * cumulative[:, -1:]
    tokens = torch.searchsorted(cumulative, wanted, right=True)[:, 0].clamp_(max=logits.shape[-1] - 1)
    return tokens, logprobs.gather(-1, tokens[:, None])[:, 0]


def _nucleus(probabilities: torch.Tensor, top_p: float) -> torch.Tensor:
    """Zero all but the smallest set of tokens that holds ``top_p``; the most likely token always stays."""
    ordered, order = probabilities.sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probabilities.masked_fill(torch.zeros_like(outside).scatter(-1, order, outside), 0.0)


def score(model: Any, token_ids: Sequence[int], temperature: float) -> list[float]:
    """Return the log-probabilities (T,) of tokens given those before them, by one forward pass; the first is 0."""
    ids = torch.tensor(token_ids, dtype=torch.long, device=model.device)  # (T,)
    head = model.get_output_embeddings()
    hidden = model.base_model(input_ids=ids[None], use_cache=False).last_hidden_state[0]  # (T, D)
    found = [0.0]
    for first in range(0, len(ids) - 1, HEAD_POSITIONS):
        following = ids[first + 1 : first + 1 + HEAD_POSITIONS]
        logits = scaled(head(hidden[first : first + len(following)]).float(), model.config) / (temperature or 1.0)
        found += logits.log_softmax(-1).gather(-1, following[:, None])[:, 0].tolist()
    return found
