"""Sum columns of the score matrix and select the best, compiled by numba if it is installed and worthwhile."""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

JIT_FROM = 50_000  # passages: compiling takes a second; smaller corpora are quick without it
LARGE_K = 1_000  # from here on use numpy's selection: ours sorts by insertion
_BLOCK = 64  # scores compared at once


def add_columns(
    scores: np.ndarray, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, term_ids: np.ndarray
) -> None:
    """Add the columns ``term_ids`` of a CSC matrix (data, indices, indptr) to ``scores`` (N,) in place."""
    for term in term_ids:
        rows, values = indices[indptr[term] : indptr[term + 1]], data[indptr[term] : indptr[term + 1]]
        for place in range(len(rows)):
            # Unsigned: a signed index would be checked at each access for counting from the end.
            scores[np.uint32(rows[place])] += values[place]


def take_best(scores: np.ndarray, rows: np.ndarray, best: np.ndarray) -> int:
    """Move the highest positive ``scores`` (N,) to ``best`` (k,), descending and ties by row; return how many there
    are.

    Their rows go to ``rows`` (k,). ``scores`` are 0 afterwards.
    """
    found = 0
    least = np.float32(0)
    for first in range(0, len(scores), _BLOCK):
        block = scores[first : first + _BLOCK]
        above = np.int32(0)
        for value in block:  # a sum, which compilers vectorise
            above += np.int32(value > least)
        if above:
            for place in range(len(block)):
                score = block[place]
                if score > least:
                    found = min(found + 1, len(best))
                    to = found - 1
                    while to > 0 and best[to - 1] < score:
                        best[to], rows[to] = best[to - 1], rows[to - 1]
                        to -= 1
                    best[to], rows[to] = score, first + place
                    if found == len(best):
                        least = best[-1]
        block[:] = 0  # while the block is in the processor's cache
    return found


class Columns:
    """The columns of an opened index, compiled; each thread keeps its own sums. Releases the GIL while searching."""

    def __init__(self, arrays: Mapping[str, Any], *, compile: bool = True) -> None:
        """``arrays``: bm25s' ``scores``. ``compile``: use numba; otherwise the same functions run uncompiled."""
        self._matrix = (arrays["data"], arrays["indices"], arrays["indptr"])
        self._num_passages = arrays["num_docs"]
        self._kept = threading.local()
        self._add, self._take = add_columns, take_best
        if compile:
            numba: Any = importlib.import_module("numba")
            self._add, self._take = numba.njit(nogil=True)(add_columns), numba.njit(nogil=True)(take_best)

    def best(self, term_ids: list[int], k: int) -> tuple[list[int], list[float]]:
        """Return rows and scores of the ``k`` best passages for the sum of these columns; terms are added in the given
        order."""
        # Removed while in use, so that sums of an interrupted search, which are not 0, are not used again.
        scores: np.ndarray | None = self._kept.__dict__.pop("scores", None)
        if scores is None:  # one per thread, reused: fresh memory costs as much as several columns
            scores = np.zeros(self._num_passages, dtype=np.float32)
        self._add(scores, *self._matrix, np.array(term_ids))
        if k < LARGE_K:
            rows, best = np.empty(k, dtype=np.int64), np.empty(k, dtype=np.float32)
            found = self._take(scores, rows, best)
            rows, best = rows[:found], best[:found]
        else:
            rows = top_rows(scores, k)
            best = scores[rows]
            scores.fill(0)
        self._kept.scores = scores
        return rows.tolist(), best.tolist()


def compiled(arrays: Mapping[str, Any]) -> Columns | None:
    """Return compiled sums over ``arrays``, bm25s' ``scores``; None if numpy is as fast."""
    if arrays["num_docs"] < JIT_FROM or importlib.util.find_spec("numba") is None:
        return None
    return Columns(arrays)


_NUMPY_BLOCK = 256  # scores per block, whose maxima are compared first


def top_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the rows of the ``k`` highest positive ``scores`` (N,), descending, ties by row.

    bm25s' own selection leaves equal scores in whatever order its partition produced.
    """
    blocks = scores[: len(scores) // _NUMPY_BLOCK * _NUMPY_BLOCK].reshape(-1, _NUMPY_BLOCK)
    rows = None
    if len(blocks) >= k:
        highest = blocks.max(axis=1)
        least = np.partition(highest, len(blocks) - k)[-k]  # k blocks reach this score, so it is a lower bound
        if least > 0:  # only these blocks and the remainder need a look
            rows = np.flatnonzero(highest >= least)[:, None] * _NUMPY_BLOCK + np.arange(_NUMPY_BLOCK)
            rows = np.append(rows, np.arange(blocks.size, len(scores)))
            rows = rows[scores[rows] >= least]
    if rows is None:
        rows = np.flatnonzero(scores > 0)
    found = scores[rows]
    if len(rows) > k:
        keep = found >= np.partition(found, len(found) - k)[-k]
        rows, found = rows[keep], found[keep]
    return rows[np.argsort(-found, kind="stable")[:k]]
