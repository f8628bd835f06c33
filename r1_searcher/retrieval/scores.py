"""From sorted shards to bm25s' score matrix: one column per term, written column by column.

bm25s computes scores when it indexes, so that a search only adds columns; for that it holds and sorts the whole corpus:
7.3 GB for two million passages. Here the frequencies of all shards are summed first; then ranges of columns are
gathered from the shards, scored and appended. The files equal bm25s' bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from r1_searcher.retrieval.shards import open_shard

DATA_FILE, INDICES_FILE, INDPTR_FILE = "data.csc.index.npy", "indices.csc.index.npy", "indptr.csc.index.npy"
_BYTES_AN_ENTRY = 60  # per entry of a range of columns being scored: score, row, and temporaries


def write_scores(
    shards: Sequence[Path],
    lengths: np.ndarray,
    num_terms: int,
    *,
    k1: float,
    b: float,
    memory: float,
    folder: Path,
    progress: Callable[[int], None] = lambda entries: None,
) -> int:
    """Write the scores of ``shards`` into ``folder`` within about ``memory`` bytes; return their number.

    ``lengths`` (N,): terms per passage. A column is never cut: the most frequent term's must fit. ``progress`` is
    called with the number of newly written entries. Needs N + 3 ``num_terms`` numbers of 8 bytes besides ``memory``.
    """
    frequency = document_frequency(shards, num_terms)
    indptr = np.zeros(num_terms + 1, dtype=np.int64)
    np.cumsum(frequency, out=indptr[1:])
    np.save(folder / INDPTR_FILE, indptr)
    idf = inverse_frequency(frequency, len(lengths))
    # Okapi's k1 ((1 - b) + b length / mean), in bm25s' order and precision: the mean is a double, so all of it is.
    norm = k1 * ((1 - b) + b * lengths / lengths.mean())
    total = int(indptr[-1])
    with open(folder / DATA_FILE, "wb") as data_file, open(folder / INDICES_FILE, "wb") as indices_file:
        _write_header(data_file, np.dtype(np.float32), total)
        _write_header(indices_file, np.dtype(np.int32), total)
        for first, end in _column_ranges(indptr, max(1, int(memory / _BYTES_AN_ENTRY))):
            data, indices = _columns(shards, indptr[first : end + 1], first, idf, norm)
            data_file.write(data.data)
            indices_file.write(indices.data)
            progress(len(data))
    return total


def document_frequency(shards: Sequence[Path], num_terms: int) -> np.ndarray:
    """Return the number of passages with each term, (``num_terms``,) int64."""
    frequency = np.zeros(num_terms, dtype=np.int64)
    for place in shards:
        shard = open_shard(place)
        frequency[shard.terms] += np.diff(shard.starts)
    return frequency


def inverse_frequency(frequency: np.ndarray, num_passages: int) -> np.ndarray:
    """Return Lucene's inverse document frequency of each term, float32."""
    different, which = np.unique(frequency, return_inverse=True)
    # math.log, as bm25s: numpy's may differ in the last bit
    logs = [math.log(1 + (num_passages - df + 0.5) / (df + 0.5)) for df in different.tolist()]
    return np.array(logs, dtype=np.float32)[which]


def _column_ranges(indptr: np.ndarray, entries: int) -> list[tuple[int, int]]:
    """Return ranges of columns of at most ``entries`` entries, or of one column."""
    ranges, first, columns = [], 0, len(indptr) - 1
    while first < columns:
        end = int(np.searchsorted(indptr, indptr[first] + entries, side="right")) - 1
        end = max(end, first + 1)
        ranges.append((first, end))
        first = end
    return ranges


def _columns(
    shards: Sequence[Path], indptr: np.ndarray, first: int, idf: np.ndarray, norm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and rows of the columns from ``first`` on; ``indptr`` are their bounds (one more than columns)."""
    size = int(indptr[-1] - indptr[0])
    data, indices = np.empty(size, dtype=np.float32), np.empty(size, dtype=np.int32)
    heads = indptr[:-1] - indptr[0]  # where the next entry of each column goes
    for place in shards:
        shard = open_shard(place)
        low, high = np.searchsorted(shard.terms, (first, first + len(heads)))
        starts = shard.starts[low : high + 1]
        terms, counts, part = shard.terms[low:high], np.diff(starts), slice(int(starts[0]), int(starts[-1]))
        columns = terms - first
        # An entry keeps its distance from its column's first entry in this shard.
        to = np.repeat(heads[columns] - (starts[:-1] - starts[0]), counts)
        to += np.arange(len(to))
        heads[columns] += counts
        rows, occurrences = shard.rows[part], shard.counts[part].astype(np.float64)
        indices[to] = rows
        scores = norm[rows]
        scores += occurrences
        np.divide(occurrences, scores, out=scores)
        scores *= np.repeat(idf[terms], counts)
        data[to] = scores
    return data, indices


def _write_header(file: BinaryIO, dtype: np.dtype, length: int) -> None:
    """Write the header that ``np.save`` writes for an array (``length``,)."""
    description = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": description, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
