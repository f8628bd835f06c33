"""An existing faiss index of the corpus becomes the dense index, after it was compared with the corpus.

Its rows must be the passages in their order, made with the model that ``index.dense`` names: some rows are embedded
again, and must be what is stored. Nothing else is embedded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from r1_searcher import params
from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.files import passages as corpora
from r1_searcher.files.store import link_or_copy
from r1_searcher.retrieval import bm25
from r1_searcher.retrieval.build import META_FILE
from r1_searcher.retrieval.dense import vectors
from r1_searcher.retrieval.dense.encoder import Encoder, embedded_text
from r1_searcher.retrieval.dense.retriever import DENSE_FOLDER, VECTORS_FILE, finish, make_meta, open_encoder
from r1_searcher.retrieval.identity import PASSAGES_FILE
from r1_searcher.retrieval.passage_file import PassageFile

ROWS = 64  # embedded again
_TOLERANCE = 0.05  # of a vector's length; half precision and another machine stay below 0.01
_WITHIN, _SHARE = 10, 0.6  # codes are compared by search: so many find themselves among the first ten
_FIX = "the model, prefixes, max_tokens and similarity in index.dense must be those that it was made with"

# How the peers join title and text before they embed: this project and FlashRAG, Search-R1, DPR.
_FORMS: dict[str, Callable[[str, str], str]] = {
    "title, line feed, text": embedded_text,
    '"title", line feed, text': lambda title, text: f'"{title}"\n{text}',
    "title, space, text": lambda title, text: f"{title} {text}",
    "text": lambda title, text: text,
}
_PREFIXES = ("", "passage: ", "query: ")  # tried to name the fault


@dataclass(frozen=True)
class _Opened:
    """A faiss index, with our names for what it is."""

    file: Path
    index: Any
    kind: str
    storage: str
    inner_product: bool


def take_over(file: Path, corpus: Path, settings: params.Dense, index: Path, *, rows: int = ROWS) -> dict[str, Any]:
    """Write ``<index>/dense`` around the faiss index in ``file``, whole; return its meta.

    ``index`` must hold the BM25 index of ``corpus``. ``rows``: how many are embedded again, evenly spaced. Raises
    ``PipelineError`` for a file that is not the index of this corpus by this model.
    """
    base = bm25.read_meta(index)
    if base["corpus"] != corpora.fingerprint(corpus):
        raise PipelineError(
            "the index belongs to another corpus", where=str(index), fix="build it: `r1-searcher index`"
        )
    opened = _open(file)
    count = int(opened.index.ntotal)
    if count != base["num_passages"]:
        raise PipelineError(
            f"has {count:,} vectors, and the corpus {base['num_passages']:,} passages",
            where=str(file),
            fix="take the index of this corpus, or index the corpus that it was made from",
        )
    encoder = open_encoder(settings, settings.device, "params.yaml, index.dense.device")
    if opened.index.d != encoder.dimension:
        raise PipelineError(
            f"has vectors of {opened.index.d} dimensions, and {settings.model} makes {encoder.dimension}",
            where=str(file),
            fix="name the model that made it in index.dense.model",
        )
    if not opened.inner_product and settings.similarity != "cosine":
        raise PipelineError(
            "ranks by L2 distance, and index.dense.similarity is dot",
            where=str(file),
            fix="set index.dense.similarity: cosine, or build the index from the corpus",
        )
    form = _check_rows(opened, PassageFile(index / PASSAGES_FILE), encoder, settings.similarity, rows)
    with artefacts.atomic(index / DENSE_FOLDER, folder=True) as draft:
        link_or_copy(file.resolve(), draft / VECTORS_FILE)
        taken = {"sha256": sums.sha256_file(draft / VECTORS_FILE), "form": form, "rows_compared": min(rows, count)}
        kept = {"kind": opened.kind, "storage": opened.storage}
        meta = make_meta(encoder, settings.model, kept, base["corpus"], (count, encoder.dimension), taken_over=taken)
        artefacts.write_json(draft / META_FILE, meta)
    finish(index, base, meta)
    return meta


def _open(file: Path) -> _Opened:
    """Map the file. Raises ``PipelineError`` if it is no faiss index, cut short, or of a kind that is not searched."""
    if not file.is_file():
        raise PipelineError("no such file", where=str(file))
    faiss = vectors.library()
    try:
        index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except (RuntimeError, MemoryError) as error:  # faiss' own error, prefixed with its source line
        reason = " ".join(str(error).split()).rpartition("Error: ")[2][:200]
        raise PipelineError(f"not a complete faiss index: {reason}", where=str(file)) from None
    half = faiss.ScalarQuantizer.QT_fp16
    match type(index).__name__:
        case "IndexFlat" | "IndexFlatIP" | "IndexFlatL2":
            kind, storage = "flat", "float32"
        case "IndexScalarQuantizer" if index.sq.qtype == half:
            kind, storage = "flat", "float16"
        case "IndexHNSWFlat":
            kind, storage = "hnsw", "float32"
        case "IndexHNSWSQ":
            kind, storage = "hnsw", "float16"
        case "IndexIVFPQ":
            kind, storage = "ivfpq", "codes"
            index = faiss.read_index(str(file), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY)
        case other:
            raise PipelineError(
                f"a faiss {other} cannot be taken over", where=str(file), fix="flat, fp16, HNSW and IVF-PQ can"
            )
    metrics = {faiss.METRIC_INNER_PRODUCT: True, faiss.METRIC_L2: False}
    if index.metric_type not in metrics:
        raise PipelineError("ranks neither by inner product nor by L2 distance", where=str(file))
    return _Opened(file, index, kind, storage, metrics[index.metric_type])


def _check_rows(opened: _Opened, passages: PassageFile, encoder: Encoder, similarity: str, rows: int) -> str:
    """Compare some rows with their passages; return how title and text were joined. Raises ``PipelineError``."""
    count = len(passages)
    numbers = np.unique(np.linspace(0, count - 1, min(rows, count)).round().astype(np.int64))
    shown = [passages.get(int(row), 0.0) for row in numbers]
    forms = {name: [join(one.title, one.text) for one in shown] for name, join in _FORMS.items()}
    if opened.kind == "ivfpq":
        return _check_codes(opened, numbers, forms, encoder)
    stored = np.stack([opened.index.reconstruct(int(row)) for row in numbers])
    lengths = np.linalg.norm(stored, axis=1)
    if similarity == "cosine" and np.abs(lengths - 1).max() > _TOLERANCE:
        raise PipelineError(
            f"its vectors are not normalised: lengths from {lengths.min():.3g} to {lengths.max():.3g}",
            where=str(opened.file),
            fix="set index.dense.similarity: dot",
        )
    apart = {name: _apart(stored, encoder.passages(texts)) for name, texts in forms.items()}
    form = min(apart, key=lambda name: float(np.median(apart[name])))
    if apart[form].max() > _TOLERANCE:
        raise _fault(opened, numbers, stored, forms[form], encoder)
    return form


def _apart(stored: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Return each row's distance, as a share of the length."""
    apart: np.ndarray = np.linalg.norm(stored - again, axis=1) / np.maximum(np.linalg.norm(again, axis=1), 1e-9)
    return apart


def _check_codes(opened: _Opened, numbers: np.ndarray, forms: dict[str, list[str]], encoder: Encoder) -> str:
    opened.index.nprobe = max(opened.index.nprobe, 32)
    shares = {}
    for name, texts in forms.items():
        _, found = opened.index.search(encoder.passages(texts), _WITHIN)
        shares[name] = float(np.mean([row in list(near) for row, near in zip(numbers, found, strict=True)]))
    form = max(shares, key=lambda name: shares[name])
    if shares[form] < _SHARE:
        raise PipelineError(
            f"{shares[form]:.0%} of {len(numbers)} passages are among the {_WITHIN} nearest to themselves: another "
            "order or model",
            where=str(opened.file),
            fix=_FIX,
        )
    return form


def _fault(
    opened: _Opened, numbers: np.ndarray, stored: np.ndarray, texts: Sequence[str], encoder: Encoder
) -> PipelineError:
    """Return the most telling error: another prefix, another order, or other vectors altogether."""
    own = encoder.embedding.passage_prefix
    for prefix in _PREFIXES:
        other = copy.copy(encoder)  # the same model
        other.embedding = replace(encoder.embedding, passage_prefix=prefix)
        if _apart(stored, other.passages(texts)).max() <= _TOLERANCE:
            return PipelineError(
                f"its passages were embedded with the prefix {prefix!r}, not {own!r}",
                where=str(opened.file),
                fix=f"index.dense.passage_prefix: {prefix!r}",
            )
    again = encoder.passages(texts)
    apart = _apart(stored, again)
    wrong = np.flatnonzero(apart > _TOLERANCE)
    _, found = opened.index.search(np.ascontiguousarray(again[wrong[:4]]), 1)
    for place, [row] in zip(wrong[:4], found, strict=True):
        there = opened.index.reconstruct(int(row))[None] if row >= 0 else stored[place : place + 1]
        if row != numbers[place] and _apart(there, again[place : place + 1])[0] <= _TOLERANCE:
            return PipelineError(
                f"is in another order: passage {numbers[place]:,} is in row {row:,}",
                where=str(opened.file),
                fix="its rows must be the passages of this corpus in their order",
            )
    return PipelineError(
        f"{len(wrong)} of {len(numbers)} rows are not what {encoder.embedding.model[:12]} makes of their passages "
        f"(median distance {np.median(apart):.2f} of a length): another model, prefix, length or order",
        where=str(opened.file),
        fix=_FIX,
    )
