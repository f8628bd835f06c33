"""Attention of packed rows by torch's own kernels, in place of the library's ``by_blocks``.

The trainer knows flash-attn and one trajectory at a time. These two are only measured: whether a third choice is worth
having is a question for a GPU.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from r1_searcher.update import attention


def by_varlen(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, block_lengths: tuple[int, ...], **options: Any
) -> tuple[Tensor, None]:
    """As ``attention.by_blocks``, by ``torch.nn.attention.varlen``: queries (1, H, T, D) -> (1, T, H, D).

    Keys and values are repeated for their query heads, because not every version of the kernel does so itself.
    """
    kernel = _varlen()
    ends = torch.tensor([0, *block_lengths], device=query.device).cumsum(0, dtype=torch.int32)
    repeats = query.shape[1] // key.shape[1]
    rows = [query, key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)]
    longest = max(block_lengths)
    taken = inspect.signature(kernel).parameters
    causal: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in taken else {"is_causal": True}
    if "scale" in taken:
        causal["scale"] = options.get("scaling")
    found = kernel(*(one[0].transpose(0, 1) for one in rows), ends, ends, longest, longest, **causal)
    return found[None], None


def _varlen() -> Callable[..., Any]:
    from torch.nn.attention.varlen import varlen_attn

    return varlen_attn


def by_flex(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, *, block_lengths: tuple[int, ...], **options: Any
) -> tuple[Tensor, None]:
    """As ``attention.by_blocks``, by flex attention, compiled on a GPU."""
    from torch.nn.attention.flex_attention import flex_attention

    plain: Any = flex_attention
    kernel = _compiled() if query.device.type == "cuda" else plain
    found = kernel(
        *(query, key, value),
        block_mask=_mask(block_lengths, query.device),
        scale=options.get("scaling"),
        enable_gqa=True,
    )
    assert isinstance(found, Tensor)
    return found.transpose(1, 2), None


@functools.cache
def _compiled() -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


@functools.lru_cache(maxsize=8)
def _mask(lengths: tuple[int, ...], device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    owner = torch.repeat_interleave(
        torch.arange(len(lengths), device=device), torch.tensor(lengths, device=device)
    )  # (T,)

    def visible(batch: Tensor, head: Tensor, place: Tensor, seen: Tensor) -> Tensor:
        return (owner[place] == owner[seen]) & (place >= seen)

    total = sum(lengths)
    return create_block_mask(visible, None, None, total, total, device=str(device))


KERNELS: dict[str, Callable[..., tuple[Tensor, None]]] = {
    "a trajectory at a time": attention.by_blocks,
    "torch varlen": by_varlen,
    "torch flex": by_flex,
}


def missing(name: str, device: str) -> str:
    """Return why a kernel cannot run here; "" if it can."""
    if name == "torch varlen" and importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return "this torch has no torch.nn.attention.varlen"
    if name == "torch flex" and importlib.util.find_spec("triton") is None:
        return "needs triton"
    return "" if device == "cuda" or KERNELS[name] is attention.by_blocks else "needs a GPU"


@contextlib.contextmanager
def instead(name: str) -> Iterator[None]:
    """Let packed models, once loaded, use a kernel of ``KERNELS`` within the block; "": the library's own."""
    from transformers import AttentionInterface

    AttentionInterface.register(attention.BLOCKS, KERNELS[name] if name else attention.by_blocks)
    try:
        yield
    finally:
        AttentionInterface.register(attention.BLOCKS, attention.by_blocks)
