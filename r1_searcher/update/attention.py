"""Attention of packed passes: every token attends to earlier tokens of its own trajectory only.

Flash attention's kernel takes the trajectories' boundaries directly. Without it, torch's scaled dot-product attention
runs on each trajectory separately. (transformers' own ``sdpa`` masks the whole row, at the cost of the row's squared
length.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from r1_searcher.errors import PipelineError
from r1_searcher.params import Update

PADDED, FLASH, BLOCKS = "sdpa", "flash_attention_2", "sdpa_by_blocks"  # transformers' names, and ours
EAGER = "eager"  # the model's own, in plain tensor operations


def implementation(update: Update, config: Any) -> str:
    """Return the name of the attention to load a model of ``config`` with.

    Flash attention needs bfloat16, a CUDA device and the package flash-attn. Soft-capped scores (Gemma 2) need the
    model's own attention: torch's kernel does not support them.
    """
    if update.layout == "padded":
        return PADDED if getattr(config, "attn_logit_softcapping", None) is None else EAGER
    from transformers import AttentionInterface
    from transformers.utils import is_flash_attn_2_available

    if torch.cuda.is_available() and update.dtype == "bfloat16" and is_flash_attn_2_available():
        return FLASH
    AttentionInterface.register(BLOCKS, by_blocks)  # no mask is made, because no mask function has this name
    return BLOCKS


def arguments(lengths: tuple[int, ...] | None, name: str, device: torch.device) -> dict[str, Any]:
    """Return what a decoder with the attention ``name`` must know about a packed row's trajectories, besides
    positions."""
    if lengths is None:
        return {}
    if name == FLASH:
        ends = torch.tensor([0, *lengths], device=device).cumsum(0, dtype=torch.int32)
        return {
            "cu_seq_lens_q": ends,
            "cu_seq_lens_k": ends,
            "max_length_q": max(lengths),
            "max_length_k": max(lengths),
        }
    return {"block_lengths": lengths} if name == BLOCKS else {}


def by_blocks(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    block_lengths: tuple[int, ...] | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each block: queries (1, H, T, D), keys and values (1, G, T, D) -> (1, T, H, D).

    ``block_lengths`` sum to T. ``sliding_window``: how many tokens a token attends to, including itself. Raises
    ``PipelineError`` for a model that does not pass ``block_lengths`` to its layers, or soft-caps its scores.
    """
    if block_lengths is None or softcap is not None:
        why = "does not tell its layers of blocks" if block_lengths is None else "caps its attention's scores softly"
        raise PipelineError(f"the model {why}", where="update.layout: packed", fix="update.layout: padded")
    assert attention_mask is None, "blocks are cut by their lengths"
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    found = []
    for parts in zip(*(tensor.split(block_lengths, dim=2) for tensor in (query, key, value)), strict=True):
        length = parts[0].shape[2]
        mask = None
        if sliding_window is not None and length > sliding_window:
            place = torch.arange(length, device=query.device)
            back = place[:, None] - place[None, :]
            mask = ((back >= 0) & (back < sliding_window))[None, None]
        found.append(sdpa_attention_forward(module, *parts, mask, **options)[0])
    return torch.cat(found, dim=1), None
