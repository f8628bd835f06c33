"""BM25 (bm25s) over title and text: an index opened memory-mapped, and searched.

The index folder holds bm25s' own arrays (scores are computed when the index is built), vocabulary and passages
as Arrow IPC files, and ``meta.json``, which says from which corpus and with which settings it was made.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from stages.contract import artefacts
from stages.contract.errors import PipelineError
from stages.contract.passages import fingerprint as passages_fingerprint
from stages.contract.protocols import Passage
from stages.index.build import META_FILE, tokenizer_code
from stages.index.columns import jitted
from stages.index.identity import PASSAGES_FILE, search_fingerprint
from stages.index.tokenizer import Tokenizer
from stages.index.vocabulary import Vocabulary

if TYPE_CHECKING:
    import bm25s

_BLOCK = 256  # scores whose highest is looked at first
_REBUILD = "run `dvc repro index`, or `python -m stages.index`"


def open_index(folder: Path | str, *, corpus: Path | str | None = None, threads: int = 1) -> Bm25Retriever:
    """Open an index folder, memory-mapped: neither scores nor passages are read before a query needs them.

    ``corpus``: the corpus folder (or its passages.parquet) that the index must belong to; their fingerprints
    are compared. ``threads``: how many queries of a call are searched at once.
    Raises ``PipelineError`` when the index is missing, broken, or belongs to another corpus.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    if corpus is not None:
        _check_corpus(folder, meta, Path(corpus))
    if meta["tokenizer"] != tokenizer_code():
        raise PipelineError("the index was made with another tokenizer", where=str(folder), fix=_REBUILD)
    import bm25s

    try:
        scorer = bm25s.BM25.load(folder, mmap=True, load_vocab=False, show_progress=False)
        vocabulary = Vocabulary(folder)
        passages = pa.ipc.open_file(pa.memory_map(str(folder / PASSAGES_FILE))).read_all()
    except (FileNotFoundError, ValueError, KeyError) as error:  # Arrow's and JSON's own errors are ValueErrors
        reason = " ".join(str(error).split())
        raise PipelineError(f"a broken index: {reason}", where=str(folder), fix=_REBUILD) from None
    return Bm25Retriever(scorer, vocabulary, passages, meta, threads)


def read_meta(folder: Path) -> dict[str, Any]:
    """The ``meta.json`` of an index folder: its corpus, settings and content."""
    path = folder / META_FILE
    if not path.is_file():
        raise PipelineError("no index here", where=str(folder), fix=_REBUILD)
    meta = artefacts.read_json(path)
    needed = ("corpus", "settings", "num_passages", "tokenizer", "content")
    if not isinstance(meta, dict) or not all(key in meta for key in needed):
        raise PipelineError("not the meta file of an index", where=str(path), fix=_REBUILD)
    return meta


def _check_corpus(folder: Path, meta: dict[str, Any], corpus: Path) -> None:
    found = passages_fingerprint(corpus)
    if found != meta["corpus"]:
        raise PipelineError(
            f"the index belongs to corpus {meta['corpus'][:12]}, but {corpus} is corpus {found[:12]}",
            where=str(folder),
            fix=_REBUILD,
        )


class Bm25Retriever:
    """The ``Retriever`` protocol over an opened index. Made by ``open_index``."""

    fingerprint: str

    def __init__(
        self, scorer: bm25s.BM25, vocabulary: Vocabulary, passages: pa.Table, meta: dict[str, Any], threads: int = 1
    ) -> None:
        self.meta = meta
        self.fingerprint = search_fingerprint(meta)
        settings = meta["settings"]
        self._tokenizer = Tokenizer(settings["stemmer"], settings["stopwords"])
        # Plain views of the mapped arrays: numpy's memmap class costs several times as much an operation.
        scorer.scores = {
            name: np.asarray(value) if isinstance(value, np.ndarray) else value for name, value in scorer.scores.items()
        }
        self._scorer = scorer
        self._vocabulary = vocabulary
        self._threads = threads
        self._kept = threading.local()
        self._add_columns = jitted(meta["num_passages"])
        self._columns = tuple(passages.column(name) for name in ("passage_id", "title", "text"))

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """The best ``k`` passages a query: by score, equal scores in the corpus' order.

        Only passages that share a word with the query are results, so there can be fewer than ``k``, or none.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if self._threads == 1 or len(queries) < 2:
            return [self._search_one(query, k) for query in queries]
        with ThreadPoolExecutor(min(self._threads, len(queries))) as pool:
            return list(pool.map(lambda query: self._search_one(query, k), queries))

    def _search_one(self, query: str, k: int) -> list[Passage]:
        known = (self._vocabulary.get(word) for word in self._tokenizer(query))
        # In a fixed order, because sums of floats depend on it: the same words give the same scores, bit for bit.
        term_ids = sorted(term for term in known if term is not None)
        if not term_ids:
            return []
        scores = self._scores(term_ids)
        ids, titles, texts = self._columns
        return [
            Passage(ids[row].as_py(), titles[row].as_py(), texts[row].as_py(), float(scores[row]))
            for row in top_rows(scores, k).tolist()
        ]

    def _scores(self, term_ids: list[int]) -> np.ndarray:
        """Scores (N,) of all passages, valid until this thread's next search."""
        arrays = self._scorer.scores
        scores: np.ndarray | None = getattr(self._kept, "scores", None)
        if self._add_columns is None:
            return np.asarray(self._scorer.get_scores_from_ids(term_ids))
        if scores is None:  # one a thread, used again: fresh memory costs as much as some columns
            scores = self._kept.scores = np.empty(arrays["num_docs"], dtype=np.float32)
        scores.fill(0)
        # In bm25s' order, so the bits are the same.
        self._add_columns(scores, arrays["data"], arrays["indices"], arrays["indptr"], np.array(term_ids))
        return scores


def top_rows(scores: np.ndarray, k: int) -> np.ndarray:
    """Rows of the ``k`` highest positive ``scores`` (N,), highest first, equal ones by row.

    bm25s' own selection orders equal scores as its partition happens to leave them.
    """
    blocks = scores[: len(scores) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    rows = None
    if len(blocks) >= k:
        highest = blocks.max(axis=1)
        least = np.partition(highest, len(blocks) - k)[-k]  # k blocks have a score that high: a bound
        if least > 0:  # so only these blocks are looked at, and what is behind the last block
            rows = np.flatnonzero(highest >= least)[:, None] * _BLOCK + np.arange(_BLOCK)
            rows = np.append(rows, np.arange(blocks.size, len(scores)))
            rows = rows[scores[rows] >= least]
    if rows is None:
        rows = np.flatnonzero(scores > 0)
    found = scores[rows]
    if len(rows) > k:
        keep = found >= np.partition(found, len(found) - k)[-k]
        rows, found = rows[keep], found[keep]
    return rows[np.argsort(-found, kind="stable")[:k]]
