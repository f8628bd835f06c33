"""Vectors in a faiss index by inner product: flat, HNSW or IVF-PQ; built from shards, opened memory-mapped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.retrieval.extras import not_installed

_WHERE = "params.yaml, index.dense"
_CENTROIDS = 256  # per byte of a product-quantised code
_POINTS_A_LIST = 39  # faiss' own rule: training vectors per centroid
_ROWS_AT_ONCE = 65_536


def library() -> ModuleType:
    """Import faiss, or raise a one-line error on how to install it."""
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise not_installed(error.name, "dense", where=_WHERE) from None
    module: ModuleType = faiss
    return module


def build(shards: Sequence[Path], settings: params.Dense, path: Path, threads: int) -> tuple[int, int]:
    """Write the faiss index of the shards' vectors to ``path``; return (passages, dimension).

    The same vectors give the same bytes on the same machine: k-means has a fixed seed, and HNSW, whose links depend on
    the order of insertion, is built by one thread. Raises ``PipelineError`` if the vectors do not fit the settings.
    """
    faiss = library()
    arrays = [np.load(shard, mmap_mode="r") for shard in shards]
    count, dimension = sum(len(array) for array in arrays), arrays[0].shape[1]
    index = _empty(faiss, settings, count, dimension)
    with _threads(faiss, 1 if settings.kind == "hnsw" else threads):
        if not index.is_trained:
            index.train(_sample(arrays, settings.ivfpq.train))
        for rows in _blocks(arrays):
            index.add(rows)
        faiss.write_index(index, str(path))
    return count, dimension


def check(settings: params.Dense, count: int, dimension: int) -> None:
    """Raise ``PipelineError`` if ``count`` vectors of this dimension do not fit the settings, or faiss is missing."""
    _empty(library(), settings, count, dimension)


def _empty(faiss: ModuleType, settings: params.Dense, count: int, dimension: int) -> Any:
    half, metric = settings.storage == "float16", faiss.METRIC_INNER_PRODUCT
    match settings.kind:
        case "flat" if half:
            return faiss.IndexScalarQuantizer(dimension, faiss.ScalarQuantizer.QT_fp16, metric)
        case "flat":
            return faiss.IndexFlatIP(dimension)
        case "hnsw":
            links = settings.hnsw.links
            if half:
                index = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_fp16, links, metric)
            else:
                index = faiss.IndexHNSWFlat(dimension, links, metric)
            index.hnsw.efConstruction = settings.hnsw.ef_construction
            return index
        case "ivfpq":
            return _empty_ivfpq(faiss, settings.ivfpq, count, dimension)
        case other:
            raise AssertionError(f"{other} is not faiss'")


def _empty_ivfpq(faiss: ModuleType, settings: params.IvfPq, count: int, dimension: int) -> Any:
    if count < _CENTROIDS:
        raise PipelineError(
            f"IVF-PQ needs {_CENTROIDS} passages or more, got {count}", where=_WHERE, fix="set index.dense.kind: flat"
        )
    if dimension % settings.code_bytes:
        fitting = [str(number) for number in range(1, dimension + 1) if dimension % number == 0]
        raise PipelineError(
            f"the model's {dimension} dimensions are not a multiple of {settings.code_bytes}",
            where=f"{_WHERE}.ivfpq.code_bytes",
            fix=f"one of {', '.join(fitting)}",
        )
    lists = settings.lists or max(1, min(round(4 * count**0.5), count // _POINTS_A_LIST))
    if lists > count:
        raise PipelineError(
            f"{lists} lists for {count} passages",
            where=f"{_WHERE}.ivfpq.lists",
            fix="set it to 0, which chooses a number",
        )
    if settings.train < max(lists, _CENTROIDS):
        raise PipelineError(
            f"k-means learns from {settings.train} passages, and needs {max(lists, _CENTROIDS)}",
            where=f"{_WHERE}.ivfpq.train",
        )
    # Not by faiss' index factory: its IVF-PQ also optimises the codes for Hamming distance, for hours.
    quantizer = faiss.IndexFlatIP(dimension)
    index = faiss.IndexIVFPQ(quantizer, dimension, lists, settings.code_bytes, 8, faiss.METRIC_INNER_PRODUCT)
    quantizer.this.disown()
    index.own_fields = True
    index.cp.spherical = True
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # else it warns, and trains anyway
    return index


def _sample(arrays: Sequence[np.ndarray], limit: int) -> np.ndarray:
    """Return at most ``limit`` vectors, evenly spaced over the corpus, float32 (T, D)."""
    count = sum(len(array) for array in arrays)
    rows = np.linspace(0, count - 1, min(limit, count)).round().astype(np.int64)
    starts = np.cumsum([0, *(len(array) for array in arrays)])
    parts = [
        array[rows[(rows >= start) & (rows < start + len(array))] - start]
        for array, start in zip(arrays, starts, strict=False)
    ]
    spaced: np.ndarray = np.concatenate(parts).astype(np.float32)
    return spaced


def _blocks(arrays: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
    for array in arrays:
        for start in range(0, len(array), _ROWS_AT_ONCE):
            yield np.ascontiguousarray(array[start : start + _ROWS_AT_ONCE], dtype=np.float32)


@contextlib.contextmanager
def _threads(faiss: ModuleType, number: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


class Vectors:
    """An opened faiss index; only what a search touches is read from the file."""

    def __init__(self, path: Path, kind: str, search: params.DenseSearch) -> None:
        """Map the file. Raises ``PipelineError`` if it is missing or broken."""
        faiss = library()
        flag = faiss.IO_FLAG_MMAP if kind == "ivfpq" else faiss.IO_FLAG_MMAP_IFC
        try:
            self._index: Any = faiss.read_index(str(path), flag | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:  # faiss' own error, prefixed with its source line
            reason = " ".join(str(error).split()).rpartition("Error: ")[2][:200]
            raise PipelineError(f"not a faiss index: {reason}", where=str(path), fix="run `dvc repro index`") from None
        if kind == "hnsw":
            self._index.hnsw.efSearch = search.ef_search
        elif kind == "ivfpq":
            self._index.nprobe = search.probes
        self.dimension: int = self._index.d
        self.count: int = self._index.ntotal

    def search(self, queries: np.ndarray, k: int) -> list[list[tuple[int, float]]]:
        """Return at most ``k`` (row, inner product) for each of ``queries`` (Q, D), best first, ties by row."""
        scores, rows = self._index.search(queries, min(k, self.count))
        if self._index.metric_type == library().METRIC_L2:  # of unit vectors: ‖q − p‖² = 2 − 2 q·p
            scores = 1 - scores / 2
        found = [
            [(int(row), float(score)) for row, score in zip(*pair, strict=True) if row >= 0]
            for pair in zip(rows, scores, strict=True)
        ]
        return [sorted(one, key=lambda entry: (-entry[1], entry[0])) for one in found]
