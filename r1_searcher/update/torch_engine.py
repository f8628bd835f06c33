"""What the trainer needs of a DeepSpeed engine, on torch alone: one process, nothing divided, nothing offloaded."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from r1_searcher.params import Update
from r1_searcher.update.optimizer import make_optimizer


class TorchEngine:
    """The model and its AdamW.

    float32 weights are stepped themselves: the same operations in the same order as under DeepSpeed's ZeRO stage 0, and
    so the same bits. bfloat16 weights have float32 masters, which AdamW steps; gradients are summed in float32.

    Attributes:
        masters: of each trained parameter its float32 master; None if the parameters are float32.
    """

    def __init__(self, module: nn.Module, update: Update, learning_rate: float) -> None:
        self.module = module
        self._limit = update.max_gradient_norm
        self._norm, self._stepped = 0.0, False
        self.masters: dict[nn.Parameter, nn.Parameter] | None = None
        trained: list[nn.Parameter] = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if update.dtype == "bfloat16":
            self.masters = {one: nn.Parameter(one.detach().float().clone()) for one in trained}
            trained = list(self.masters.values())
        self.optimizer = make_optimizer(trained, update, learning_rate)
        self.basic_optimizer = None if self.masters else self.optimizer  # DeepSpeed's names for the same

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.module(*arguments, **named)

    def set_gradient_accumulation_boundary(self, boundary: bool) -> None:
        """Nothing to do: without ranks a boundary has no meaning."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss`` to those since the last step."""
        loss.backward()
        for parameter, master in (self.masters or {}).items():
            if parameter.grad is None:
                continue
            gradient = parameter.grad.float()
            master.grad = gradient if master.grad is None else master.grad.add_(gradient)
            parameter.grad = None

    def step(self) -> None:
        """Step, and forget the gradients. With masters also clip before, and do not step on a norm that is not finite;
        float32 gradients are clipped by the caller."""
        if self.masters:
            self._norm = float(torch.nn.utils.clip_grad_norm_(list(self.masters.values()), self._limit))
            self._stepped = math.isfinite(self._norm)
            if not self._stepped:
                return
        self.optimizer.step()
        self.optimizer.zero_grad()
        for parameter, master in (self.masters or {}).items():
            parameter.data.copy_(master.data)

    def get_global_grad_norm(self) -> float:
        """Return the norm of the last step's gradients before clipping."""
        return self._norm

    def was_step_applied(self) -> bool:
        """Return whether the last step was taken."""
        return self._stepped

    def zero_optimization_stage(self) -> int:
        """Return DeepSpeed's name for nothing divided."""
        return 0

    def destroy(self) -> None:
        """Drop the gradients and the optimiser's state."""
        self.optimizer.zero_grad()
        self.optimizer.state.clear()
