"""Key-value cache of a batch whose rows have read different numbers of tokens.

Before each pass the cache is told where to write (``Reading``). Rows of equal length are written and returned as views.
Rows of unequal length are each written at their own position, and the pass needs a mask, which the model builds from
the rows' offsets (some layers use a sliding window). Memory grows in blocks, so that a new token is written in place
without copying the cache; finished rows are dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_BLOCK = 64  # tokens per row by which memory grows


@dataclass(frozen=True)
class Reading:
    """Where a pass of N tokens per row is written: from ``start`` to ``end``, the longest row's end.

    ``only``: the cache rows that share what a pass over one row reads (the same tokens so far); None for all rows.
    ``places``: (B, N) token positions if rows differ; None if all begin at ``start``.
    """

    start: int
    end: int
    only: Sequence[int] | None = None
    places: Tensor | None = None

    @classmethod
    def together(cls, starts: Sequence[int], number: int, device: torch.device) -> Reading:
        """``number`` tokens for every row; ``starts``: tokens that each row has read."""
        first, last = min(starts), max(starts)
        if first == last:
            return cls(first, first + number)
        places = torch.tensor(starts, device=device)[:, None] + torch.arange(number, device=device)
        return cls(first, last + number, places=places)

    @property
    def offset(self) -> int | Tensor:
        """Tokens before this pass; (B,) if rows differ, for ``token_attention.mask``."""
        return self.start if self.places is None else self.places[:, 0]


class RowLayer(CacheLayerMixin):  # type: ignore[misc]  # transformers is not followed
    """Keys and values of one layer, (B, heads, tokens, D); each row is filled up to its own length."""

    is_sliding = False

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.reading = Reading(0, 0)

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        heads = key_states.shape[1]
        self.keys = key_states.new_empty(self.rows, heads, 0, key_states.shape[-1])
        self.values = value_states.new_empty(self.rows, heads, 0, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write (R, heads, N, D) at ``reading``; return what the R rows may attend to, (R, heads, end, D)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        if self.reading.end > self.keys.shape[-2]:
            room = -(-self.reading.end // _BLOCK) * _BLOCK
            self.keys, self.values = _enlarge(self.keys, room), _enlarge(self.values, room)
        return self._write(self.keys, key_states), self._write(self.values, value_states)

    def _write(self, kept: Tensor, states: Tensor) -> Tensor:
        start, end, only = self.reading.start, self.reading.end, self.reading.only
        if only is not None:
            kept[torch.tensor(only, device=kept.device), :, start:end] = states
            return kept[only[0] : only[0] + 1, :, :end]
        if self.reading.places is None:
            kept[:, :, start:end] = states
        else:
            rows = torch.arange(len(kept), device=kept.device)[:, None]  # (B, 1)
            kept[rows, :, self.reading.places] = states.transpose(1, 2)  # (B, N, heads, D) by this indexing
        return kept[:, :, :end]

    def keep_rows(self, rows: Tensor) -> None:
        """Keep the rows with these numbers and drop the others."""
        assert self.keys is not None and self.values is not None
        self.rows, self.keys, self.values = len(rows), self.keys[rows], self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.reading.end, 0

    def get_seq_length(self) -> int:
        return self.reading.start

    def get_max_length(self) -> int:
        return -1


def _enlarge(tensor: Tensor, room: int) -> Tensor:
    """Return the tensor with more room at its end: zeros, because masked values must still be finite."""
    larger = tensor.new_zeros(*tensor.shape[:2], room, tensor.shape[3])
    larger[:, :, : tensor.shape[2]] = tensor
    return larger


class RowCache(Cache):  # type: ignore[misc]
    """Cache of ``RowLayer``s with the interface that transformers' models expect."""

    def __init__(self, num_layers: int, rows: int) -> None:
        super().__init__(layers=[RowLayer(rows) for _ in range(num_layers)])

    def read(self, reading: Reading) -> None:
        """Set where the next pass is written."""
        for layer in self.layers:
            layer.reading = reading

    def get_query_offset(self, layer_idx: int = 0) -> Any:
        """Tokens before the pass; (B,) if rows differ."""
        return self.layers[layer_idx].reading.offset

    def keep_rows(self, rows: Tensor) -> None:
        """Keep only these rows in every layer."""
        for layer in self.layers:
            layer.keep_rows(rows)
