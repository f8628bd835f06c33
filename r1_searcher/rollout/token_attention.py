"""Attention for decoding one token per row, and the mask for rows that have read different numbers of tokens.

Decoding has one query per head and row over all cached keys. torch is slow at that in two cases. In bfloat16 on a CPU,
its flash kernel (2.13) takes several times as long as two batched matrix products (docs/benchmarks.md). And if rows
have read different numbers of tokens, a mask is needed, for which transformers copies all cached keys and values once
per query head of a group, at every token. Everything else, such as float32 without a mask or several tokens, is left to
torch, except models that soft-cap their scores (Gemma 2), which torch's kernel cannot.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from r1_searcher.errors import PipelineError

_NAME = "sdpa_by_tokens"


def use(model: Any) -> None:
    """Make a model use this attention. Raises ``PipelineError`` if its attention is more than a scaled dot product."""
    from transformers import AttentionInterface, AttentionMaskInterface

    if not getattr(model, "_supports_sdpa", True):
        raise PipelineError(
            "this model's attention is more than torch's scaled dot product, which is all that this engine knows",
            where=f"config.json, model_type {model.config.model_type}",
            fix="choose another model",
        )
    AttentionInterface.register(_NAME, attend)
    AttentionMaskInterface.register(_NAME, mask)
    model.set_attn_implementation(_NAME)


def mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Tensor] | None = None,
    **options: Any,
) -> Tensor | None:
    """Return (B, 1, N, T), True where a token may attend, by the model's positions; None if no mask is needed.

    ``q_offset``: tokens read before, (B,) if rows differ (``cache.RowCache.get_query_offset``). ``mask_function``: the
    model's own, of batch, head, query and key, which broadcast: causal, with a window or chunk in layers that have one.
    """
    from transformers.masking_utils import sdpa_mask

    if not isinstance(q_offset, Tensor):
        own = {} if mask_function is None else {"mask_function": mask_function}
        made: Tensor | None = sdpa_mask(
            batch_size=batch_size,
            q_length=q_length,
            kv_length=kv_length,
            q_offset=q_offset,
            kv_offset=kv_offset,
            **own,
            **options,
        )
        return made
    assert mask_function is not None, "a mask of nothing"
    device = q_offset.device
    rows = torch.arange(batch_size, device=device)[:, None, None, None]
    queries = (q_offset[:, None] + torch.arange(q_length, device=device))[:, None, :, None]  # (B, 1, N, 1)
    keys = torch.arange(kv_length, device=device) + kv_offset
    heads = torch.zeros((), dtype=torch.long, device=device)
    return mask_function(rows, heads, queries, keys).expand(batch_size, 1, q_length, kv_length)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend with queries (B, H, N, D), keys and values (B, G, T, D); return (B, N, H, D).

    ``attention_mask``: (B, 1, N, T), True where a query may attend. ``softcap``: scores s become softcap · tanh(s /
    softcap).
    """
    rows, heads, tokens, dim = query.shape
    slow = attention_mask is not None or (query.dtype == torch.bfloat16 and query.device.type == "cpu")
    if softcap is None and (tokens > 1 or not slow):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        as_ever: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
        return as_ever
    groups, length = key.shape[1:3]  # key-value heads
    if attention_mask is None and tokens > 1:  # transformers leaves a causal mask to torch's kernel
        behind = torch.arange(length - tokens, length, device=query.device)[:, None]
        attention_mask = (torch.arange(length, device=query.device) <= behind)[None, None]
    queries = query.reshape(rows * groups, heads // groups * tokens, dim)
    keys, values = (tensor.reshape(rows * groups, -1, tensor.shape[-1]) for tensor in (key, value))
    scores = torch.bmm(queries, keys.transpose(1, 2)).float() * (dim**-0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = (scores / softcap).tanh() * softcap
    if attention_mask is not None:
        hidden = ~attention_mask.expand(rows, -1, -1, -1)[:, :1, None]  # (B, 1, 1, N, T)
        scores = scores.reshape(rows, groups, heads // groups, tokens, length)
        scores = scores.masked_fill_(hidden, float("-inf")).reshape(rows * groups, -1, length)
    found = torch.bmm(scores.softmax(-1).to(values.dtype), values)  # (B * G, H / G * N, D)
    return found.reshape(rows, heads, tokens, -1).transpose(1, 2), None
