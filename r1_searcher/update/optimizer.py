"""The optimiser of every trainer."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from r1_searcher.params import Update


def make_optimizer(parameters: Sequence[torch.nn.Parameter], update: Update, learning_rate: float) -> torch.optim.AdamW:
    """Return AdamW with weight decay on matrices only, as is usual."""
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": update.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=learning_rate, betas=update.betas, fused=True
    )
