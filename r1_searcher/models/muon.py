"""Muon in float32, with all matrices of one shape in one batch.

``torch.optim.Muon`` orthogonalises in bfloat16, one matrix at a time; on a CPU without bfloat16 units a step of the
laptop model took 720 ms, and in float32 batches 20–50 ms (docs/log.md). Method: Keller Jordan et al., Muon, 2024, with
its Newton–Schulz coefficients.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon:
    """Momentum SGD with orthogonalised steps. ``step`` reads the parameters' gradients and keeps them."""

    def __init__(self, matrices: Iterable[torch.nn.Parameter], *, momentum: float = 0.95) -> None:
        self.momentum = momentum
        self.groups: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
        for matrix in matrices:
            self.groups[matrix.shape].append(matrix)
        self.buffers = {shape: torch.zeros(len(group), *shape) for shape, group in self.groups.items()}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for shape, group in self.groups.items():
            gradient = torch.stack([matrix.grad for matrix in group if matrix.grad is not None])  # (N, rows, columns)
            buffer = self.buffers[shape].lerp_(gradient, 1 - self.momentum)
            update = orthogonalise(gradient.lerp(buffer, self.momentum))  # Nesterov
            scale = learning_rate * max(1.0, shape[0] / shape[1]) ** 0.5
            for matrix, change in zip(group, update, strict=True):
                matrix.sub_(change, alpha=scale)


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return roughly the nearest semi-orthogonal matrices of (N, rows, columns)."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: torch.Tensor = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
