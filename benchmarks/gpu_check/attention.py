"""Kernels for packed rows: do they agree, and how long do they take, forward and backward."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from . import kernels, timing
from .figures import Figures

# query heads, key-value heads, width, tokens of a row
SHAPES = {"0.5B": (14, 2, 64, 8192), "3B": (16, 2, 128, 8192)}


def run(figures: Figures) -> None:
    """Note each kernel's largest gap to float32 and its milliseconds."""
    device = figures.machine.device
    for name in kernels.KERNELS:  # flex attention last: it is compiled, and may use the time up
        for size, (heads, groups, width, tokens) in SHAPES.items():
            lengths = _lengths(64 if figures.machine.rehearsal else tokens)
            torch.manual_seed(0)
            shapes = [(1, heads, sum(lengths), width), *[(1, groups, sum(lengths), width)] * 2]
            exact = [torch.randn(shape, device=device) for shape in shapes]
            expected = _attend("a trajectory at a time", exact, lengths)
            halves = [one.bfloat16().requires_grad_() for one in exact]
            if why := kernels.missing(name, device):
                figures.note(f"{name}, {size}", None, "ms", about=why)
                continue
            if figures.left() < (25 if name == "torch flex" else 10):
                figures.note(f"{name}, {size}", None, "ms", about="no time left")
                continue
            try:
                gap = float((_attend(name, halves, lengths).detach().float() - expected).abs().max())
                taken = timing.seconds(functools.partial(_both_ways, name, halves, lengths), device, repeats=3, warm=1)
            except Exception as error:  # a kernel that does not run here says so, and the others go on
                figures.note(f"{name}, {size}", None, "ms", about=f"{type(error).__name__}: {error}"[:300])
                continue
            figures.note(f"{name}, {size}, gap", gap, about="largest, bfloat16 beside float32")
            figures.note(f"{name}, {size}", 1e3 * taken, "ms", about=f"one layer, {sum(lengths)} tokens, both ways")


def _lengths(tokens: int) -> tuple[int, ...]:
    random, found = np.random.default_rng(0), [tokens]
    while found[-1] > 1.6 * tokens / 8:
        piece = int(random.uniform(0.4, 1.6) * tokens / 8)
        found[-1:] = [piece, found[-1] - piece]
    return tuple(found)


def _attend(name: str, rows: list[Any], lengths: tuple[int, ...]) -> torch.Tensor:
    module = torch.nn.Module()
    repeats = rows[0].shape[1] // rows[1].shape[1]
    module.num_key_value_groups, module.is_causal = repeats, True  # type: ignore[assignment]
    return kernels.KERNELS[name](module, *rows, None, block_lengths=lengths, scaling=rows[0].shape[-1] ** -0.5)[0]


def _both_ways(name: str, rows: list[Any], lengths: tuple[int, ...]) -> None:
    _attend(name, rows, lengths).float().sum().backward()
