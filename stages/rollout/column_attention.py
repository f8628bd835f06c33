"""Attention of one new token a row, in bfloat16 on a CPU, where torch's own kernel is slow.

Generating reads one column at a time: a query a head and row over all cached keys. torch 2.13's flash kernel for CPUs
takes several times as long for that in bfloat16 as two batched matrix products do (docs/benchmarks.md); in float32 it
is as quick, and is left alone, as is whatever reads several columns.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "sdpa_by_columns"


def use(model: Any) -> None:
    """Let a model, loaded in bfloat16 for a CPU, attend this way."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """(B, H, N, D), keys and values (B, G, T, D) -> (B, N, H, D). By hand where N is 1 and nothing is masked."""
    if query.shape[2] > 1 or attention_mask is not None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    rows, heads, _, dim = query.shape
    groups = key.shape[1]  # key-value heads
    queries = query.reshape(rows * groups, heads // groups, dim)
    keys, values = (tensor.reshape(rows * groups, -1, dim) for tensor in (key, value))
    scores = torch.bmm(queries, keys.transpose(1, 2)).float() * (dim**-0.5 if scaling is None else scaling)
    found = torch.bmm(scores.softmax(-1).to(values.dtype), values)  # (B * G, H / G, D)
    return found.reshape(rows, 1, heads, dim), None
