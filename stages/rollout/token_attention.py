"""Attention of one new token a row, by two batched matrix products where torch's own kernel is slow.

Generating reads a token a row: a query a head and row over all cached keys. In two cases torch is slow at that. In
bfloat16 on a CPU its flash kernel (2.13) takes several times as long (docs/benchmarks.md). And where rows have read
different numbers of tokens there is a mask, for which transformers copies keys and values once a query head of a group,
all of the cache at every token. Anything else, such as float32 without a mask or several tokens, is left to torch.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "sdpa_by_tokens"


def use(model: Any) -> None:
    """Let a model attend this way."""
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
    """(B, H, N, D), keys and values (B, G, T, D), a mask (B, 1, N, T) that is True where to look -> (B, N, H, D)."""
    slow = attention_mask is not None or (query.dtype == torch.bfloat16 and query.device.type == "cpu")
    if query.shape[2] > 1 or not slow:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
    rows, heads, _, dim = query.shape
    groups = key.shape[1]  # key-value heads
    queries = query.reshape(rows * groups, heads // groups, dim)
    keys, values = (tensor.reshape(rows * groups, -1, dim) for tensor in (key, value))
    scores = torch.bmm(queries, keys.transpose(1, 2)).float() * (dim**-0.5 if scaling is None else scaling)
    if attention_mask is not None:
        hidden = ~attention_mask[:, :, 0].expand(rows, groups, -1).reshape(rows * groups, 1, -1)
        scores.masked_fill_(hidden, float("-inf"))
    found = torch.bmm(scores.softmax(-1).to(values.dtype), values)  # (B * G, H / G, D)
    return found.reshape(rows, 1, heads, dim), None
