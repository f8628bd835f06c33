"""Passes that read a different number of tokens of each row, end to end as one sequence, and the cache that they fill.

A prompt of 60 tokens, a block of 90 and the next tokens of 30 other rows are one pass of 180 tokens: nothing is padded,
and no row waits for another one's pass. The layers of a model but attention treat tokens one by one; attention is told
whose tokens they are.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from r1_searcher.rollout import token_attention
from r1_searcher.rollout.cache import RowLayer

_NAME = "sdpa_packed"
_BLOCK = 64  # tokens per row by which memory grows


@dataclass(frozen=True)
class RowPiece:
    """Tokens ``start`` to ``end`` of the trajectory that has the cache's row ``row``; at least one."""

    row: int
    start: int
    end: int


class Packing:
    """A pass of M tokens: the pieces one after another, no two of one row.

    ``rows``, ``places``: (M,), the row and the position of each token. ``last``: (pieces,), the last token of each.
    ``only``: the piece, if there is one alone: such a pass needs no more than the model's own mask.
    """

    def __init__(self, pieces: Sequence[RowPiece], device: torch.device) -> None:
        self.only = pieces[0] if len(pieces) == 1 else None
        self.height, self.end = max(one.row for one in pieces) + 1, max(one.end for one in pieces)
        self.rows = torch.tensor([one.row for one in pieces for _ in range(one.start, one.end)], device=device)
        self.places = torch.tensor([place for one in pieces for place in range(one.start, one.end)], device=device)
        ends = list(itertools.accumulate(one.end - one.start for one in pieces))
        self.last = torch.tensor(ends, device=device) - 1
        self._long = [(end, one) for end, one in zip(ends, pieces, strict=True) if one.end - one.start > 1]
        single = {one.row: end - 1 for end, one in zip(ends, pieces, strict=True) if one.end - one.start == 1}
        self._single = torch.tensor(list(single.values()), dtype=torch.long, device=device)
        self._single_rows = torch.tensor(list(single), dtype=torch.long, device=device)
        # Of each row its single token; of the other rows any token, whose result is not used.
        self._of_row = torch.tensor([single.get(row, 0) for row in range(self.height)], device=device)

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, **options: Any
    ) -> Tensor:
        """Attend with queries (1, H, M, D), keys and values of all rows (B, G, T, D) and each token's mask
        (M, 1, 1, T); return (1, M, H, D)."""
        found = query.new_empty(1, query.shape[2], query.shape[1], value.shape[-1])
        if len(self._single):  # all rows take part: to leave some out, the others' keys would have to be copied
            queries = query[0, :, self._of_row].transpose(0, 1)[:, :, None]  # (B, H, 1, D)
            of_rows, _ = token_attention.attend(module, queries, key, value, mask[self._of_row], **options)
            found[0, self._single] = of_rows[self._single_rows, 0]
        for end, one in self._long:
            tokens = slice(end - (one.end - one.start), end)
            keys, values = (tensor[one.row : one.row + 1, :, : one.end] for tensor in (key, value))
            seen = mask[tokens, 0, 0, : one.end][None, None]  # (1, 1, N, end)
            found[:, tokens], _ = token_attention.attend(module, query[:, :, tokens], keys, values, seen, **options)
        return found


class _PackedLayer(RowLayer):
    """Keys and values of one layer, (B, heads, tokens, D), with room for more rows than are in use."""

    packing: Packing

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write (1, heads, M, D); return all rows up to the last one that the pass reads, or its only one, (B, heads,
        end of the longest piece, D)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = self._with_room(self.keys), self._with_room(self.values)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _with_room(self, kept: Tensor) -> Tensor:
        rows, heads, room, dim = kept.shape
        if self.packing.height <= rows and self.packing.end <= room:
            return kept
        room = max(room, -(-self.packing.end // _BLOCK) * _BLOCK)
        larger = kept.new_zeros(max(rows, self.packing.height), heads, room, dim)  # zeros: masked values must be finite
        larger[:rows, :, : kept.shape[2]] = kept
        return larger

    def _write(self, kept: Tensor, states: Tensor) -> Tensor:
        packing, one = self.packing, self.packing.only
        if one is not None:
            own = kept[one.row : one.row + 1, :, : one.end]
            own[:, :, one.start :] = states
            return own
        kept[packing.rows, :, packing.places] = states[0].transpose(0, 1)  # (M, heads, D)
        return kept[: packing.height, :, : packing.end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.packing.end, 0

    def get_seq_length(self) -> int:
        return 0


class PackedCache(Cache):  # type: ignore[misc]
    """Cache of a model whose passes are packed; a row's place is free for another trajectory at any time, because no
    row reads beyond what it has written."""

    def __init__(self, num_layers: int) -> None:
        super().__init__(layers=[_PackedLayer(0) for _ in range(num_layers)])

    def read(self, packing: Packing) -> None:
        """Set what the next pass reads."""
        for layer in self.layers:
            layer.packing = packing

    def keep_first(self) -> None:
        """Free the memory of all rows but the first."""
        for layer in self.layers:
            if layer.is_initialized:
                layer.keep_rows(torch.zeros(1, dtype=torch.long))

    def get_query_offset(self, layer_idx: int = 0) -> int | Tensor:
        """Tokens before each token of the pass, (M,); before the first one, if they are one row's."""
        packing: Packing = self.layers[layer_idx].packing
        return packing.places if packing.only is None else packing.only.start


def use(model: Any) -> None:
    """Make a model that uses ``token_attention`` take packed passes too."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_NAME, _attend)
    AttentionMaskInterface.register(_NAME, _mask)
    model.set_attn_implementation(_NAME)


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    packing: Packing | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    if packing is None or packing.only is not None:
        return token_attention.attend(module, query, key, value, attention_mask, **options)
    assert attention_mask is not None
    return packing.attend(module, query, key, value, attention_mask, **options), None


def _mask(*, batch_size: int, q_length: int, q_offset: int | Tensor = 0, **options: Any) -> Tensor | None:
    """As ``token_attention.mask``; of a packed pass (M, 1, 1, T), as if each of its tokens were a row."""
    if isinstance(q_offset, Tensor) and batch_size == 1:
        batch_size, q_length = q_length, 1
    return token_attention.mask(batch_size=batch_size, q_length=q_length, q_offset=q_offset, **options)
