"""An optimiser step that is taken only if loss and gradients are finite."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from r1_searcher.errors import PipelineError
from r1_searcher.update import state


def take_step(engine: Any, loss: Tensor, limit: float, where: str) -> float:
    """Clip the gradients to the norm ``limit`` and step; return the norm before clipping.

    Raises ``PipelineError``, without stepping, if the loss or a gradient is not finite.
    """
    if state.is_plain(engine):  # DeepSpeed clips in float32 stage 0 too, but does not report the norm
        norm = float(torch.nn.utils.clip_grad_norm_(engine.module.parameters(), limit))
        finite = bool(torch.isfinite(loss)) and math.isfinite(norm)
        if finite:
            engine.step()
    else:
        finite = bool(torch.isfinite(loss))
        if finite:
            engine.step()
            norm = float(engine.get_global_grad_norm() or 0.0)
            finite = math.isfinite(norm) and engine.was_step_applied()
    if not finite:
        engine.optimizer.zero_grad()
        raise PipelineError(
            f"the update's loss ({loss.item():g}) or its gradient is not finite; the step was not taken",
            where=where,
            fix="lower the learning rate, or look for broken log-probabilities in the rollouts",
        )
    return norm
