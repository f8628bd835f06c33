"""Term counts of a corpus in sorted shards on disk, between reading the passages and scoring them.

For consecutive passages a shard holds every (term, passage) pair with the term's count, ordered by term and then by
passage. So the pairs of a range of terms are one slice of each shard, and a corpus of any size is sorted by term
(``r1_searcher/retrieval/scores.py``) within the shards' memory budget.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_BYTES_A_TOKEN = 48  # per token of a shard while it is sorted: id, passage, sort key, and temporaries
_ROW_BITS = 32


@dataclass(frozen=True)
class Shard:
    """``terms`` (T,) ascending; the pairs of terms[i] are [starts[i], starts[i + 1]) of ``rows`` (passage numbers in
    the corpus, ascending) and ``counts``. Arrays are memory-mapped."""

    terms: np.ndarray
    starts: np.ndarray
    rows: np.ndarray
    counts: np.ndarray


class ShardWriter:
    """Takes the passages' term ids in order; writes shards into an existing ``folder`` within ``memory`` bytes."""

    def __init__(self, folder: Path, memory: float) -> None:
        self._folder = folder
        self._tokens_a_shard = max(1, int(memory / _BYTES_A_TOKEN))
        self._tokens, self._lengths = array("i"), array("i")
        self._first_row = 0  # of the shard
        self._written: list[Path] = []

    def add(self, term_ids: Sequence[int]) -> None:
        """Add the next passage."""
        self._tokens.extend(term_ids)
        self._lengths.append(len(term_ids))
        if len(self._tokens) >= self._tokens_a_shard:
            self._flush()

    def close(self) -> tuple[list[Path], np.ndarray]:
        """Write the rest; return the shards' folders and the number of terms per passage, (N,) int32."""
        if self._first_row < len(self._lengths):
            self._flush()
        return self._written, np.array(self._lengths, dtype=np.int32)

    def _flush(self) -> None:
        lengths = np.array(self._lengths[self._first_row :], dtype=np.int32)
        keys = np.repeat(np.arange(self._first_row, len(self._lengths), dtype=np.int64), lengths)
        keys |= np.frombuffer(self._tokens, dtype=np.int32).astype(np.int64) << _ROW_BITS
        self._tokens = array("i")
        keys.sort()
        firsts = _firsts(keys)
        counts = np.diff(firsts, append=len(keys))
        keys = keys[firsts]
        terms = keys >> _ROW_BITS
        starts = _firsts(terms)
        place = self._folder / f"{len(self._written):05d}"
        place.mkdir()
        np.save(place / "terms.npy", terms[starts].astype(np.int32))
        np.save(place / "starts.npy", np.append(starts, len(terms)))
        np.save(place / "rows.npy", (keys & ((1 << _ROW_BITS) - 1)).astype(np.int32))
        np.save(place / "counts.npy", counts.astype(np.min_scalar_type(int(counts.max(initial=0)))))
        self._written.append(place)
        self._first_row = len(self._lengths)


def _firsts(ordered: np.ndarray) -> np.ndarray:
    """Return where each run of equal values begins, int64."""
    changes = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=changes[1:])
    return np.flatnonzero(changes)


def open_shard(place: Path) -> Shard:
    """Open a shard that ``ShardWriter`` wrote, without reading it."""
    names = ("terms", "starts", "rows", "counts")
    # asarray: each operation on numpy's memmap class costs several times as much as on a plain view.
    return Shard(*(np.asarray(np.load(place / f"{name}.npy", mmap_mode="r")) for name in names))
