"""The key-value cache of a batch whose rows advance together, one column (position) at a time.

Memory for all columns is taken in blocks, so that a new column is written in place instead of
copying the whole cache, and rows that finish are dropped from it.
"""

from __future__ import annotations

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

BLOCK = 64  # columns of memory taken at a time


class ColumnLayer(CacheLayerMixin):
    """One layer's keys and values, (B, heads, columns, D), of which ``length`` columns are filled."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        batch, heads, _, dim = key_states.shape
        self.keys = key_states.new_empty(batch, heads, 0, dim)
        self.values = value_states.new_empty(batch, heads, 0, value_states.shape[-1])
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write (B, heads, N, D) behind what is there; return views of all filled columns."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        end = self.length + key_states.shape[-2]
        if end > self.keys.shape[-2]:
            room = -(-end // BLOCK) * BLOCK
            self.keys, self.values = _grown(self.keys, room, self.length), _grown(self.values, room, self.length)
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Keep the rows (a tensor of row numbers) and forget the others."""
        assert self.keys is not None and self.values is not None
        self.keys, self.values = self.keys[rows], self.values[rows]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        return self.length

    def get_max_length(self) -> int:
        return -1


def _grown(tensor: torch.Tensor, columns: int, filled: int) -> torch.Tensor:
    larger = tensor.new_empty(*tensor.shape[:2], columns, tensor.shape[3])
    larger[:, :, :filled] = tensor[:, :, :filled]
    return larger


class ColumnCache(Cache):
    """A cache of ``ColumnLayer``s that transformers' models take."""

    def __init__(self, num_layers: int) -> None:
        super().__init__(layers=[ColumnLayer() for _ in range(num_layers)])

    def keep_rows(self, rows: torch.Tensor) -> None:
        """Keep some rows of every layer."""
        for layer in self.layers:
            layer.keep_rows(rows)
