"""BM25 (bm25s) over title and text: open an index without reading it, and search it.

The index folder holds bm25s' own arrays (scores are computed at build time), vocabulary and passages as Arrow IPC
files, and ``meta.json``, which records its corpus and settings.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from r1_searcher.errors import PipelineError
from r1_searcher.files import artefacts, sums
from r1_searcher.files.passages import fingerprint as passages_fingerprint
from r1_searcher.retrieval import word_settings
from r1_searcher.retrieval.build import BM25_PARAMS_FILE, META_FILE
from r1_searcher.retrieval.columns import compiled, top_rows
from r1_searcher.retrieval.identity import FILES, PASSAGES_FILE, search_fingerprint
from r1_searcher.retrieval.passage_file import PassageFile
from r1_searcher.retrieval.tokenizer import Tokenizer
from r1_searcher.retrieval.vocabulary import Vocabulary
from r1_searcher.types.protocols import Passage

if TYPE_CHECKING:
    import bm25s

_A_SHARE = 8  # queries per thread and task: handing over one costs a tenth of a small search


def open_index(folder: Path | str, *, corpus: Path | str | None = None, threads: int = 1) -> Bm25Retriever:
    """Open an index folder: verify its files' checksums, once per process, and map its scores into memory.

    Neither scores nor passages are read before a query needs them. ``corpus``: the corpus folder (or its
    passages.parquet) that the index must belong to, by fingerprint. ``threads``: how many queries of a call are
    searched in parallel. Raises ``PipelineError`` if the index is missing, broken, or belongs to another corpus.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    if corpus is not None:
        check_corpus(meta, folder, Path(corpus))
    sums.check_files(folder / name for name in (*FILES, BM25_PARAMS_FILE))
    word_settings.check_form(meta, folder)
    tokenizer = word_settings.index_tokenizer(meta["settings"], folder)
    import bm25s

    try:
        scorer = bm25s.BM25.load(folder, mmap=True, load_vocab=False, show_progress=False)
        vocabulary = Vocabulary(folder)
        passages = PassageFile(folder / PASSAGES_FILE)
    except (OSError, ValueError, KeyError, EOFError, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise  # an error of the disk, not of the files
        reason = " ".join(str(error).split())
        raise PipelineError(f"a broken index: {reason}", where=str(folder), fix=word_settings.REBUILD) from None
    return Bm25Retriever(scorer, tokenizer, vocabulary, passages, meta=meta, threads=threads)


def read_meta(folder: Path) -> dict[str, Any]:
    """Return the ``meta.json`` of an index folder: its corpus, settings and content. Raises ``PipelineError``."""
    path = folder / META_FILE
    if not path.is_file():
        raise PipelineError("no index here", where=str(folder), fix=word_settings.REBUILD)
    meta = artefacts.read_json(path)
    needed = ("corpus", "settings", "num_passages", "tokenizer", "content")
    if not isinstance(meta, dict) or not all(key in meta for key in needed):
        raise PipelineError("not the meta file of an index", where=str(path), fix=word_settings.REBUILD)
    return meta


def check_corpus(meta: dict[str, Any], folder: Path, corpus: Path) -> None:
    """Raise ``PipelineError`` unless the index in ``folder`` was built from ``corpus``."""
    found = passages_fingerprint(corpus)
    if found != meta["corpus"]:
        raise PipelineError(
            f"the index belongs to corpus {meta['corpus'][:12]}, but {corpus} is corpus {found[:12]}",
            where=str(folder),
            fix=word_settings.REBUILD,
        )


class Bm25Retriever:
    """The ``Retriever`` protocol over an index opened by ``open_index``."""

    fingerprint: str

    def __init__(
        self,
        scorer: bm25s.BM25,
        tokenizer: Tokenizer,
        vocabulary: Vocabulary,
        passages: PassageFile,
        *,
        meta: dict[str, Any],
        threads: int = 1,
    ) -> None:
        self.meta = meta
        self.fingerprint = search_fingerprint(meta)
        self._tokenizer = tokenizer
        # Plain views of the mapped arrays: each operation on numpy's memmap class costs several times as much.
        scorer.scores = {
            name: np.asarray(value) if isinstance(value, np.ndarray) else value for name, value in scorer.scores.items()
        }
        self._scorer = scorer
        self._vocabulary = vocabulary
        self._threads = threads
        self._compiled = compiled(scorer.scores)
        self._passages = passages

    def around(self, passage: Passage, before: int, after: int) -> list[Passage]:
        """See ``Windows``."""
        return self._passages.around(passage.passage_id, before, after)

    def search(self, queries: Sequence[str], k: int) -> list[list[Passage]]:
        """Return the best ``k`` passages per query: by score, equal scores in corpus order.

        Only passages that share a word with the query are results, so there can be fewer than ``k``, or none.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if self._threads == 1 or len(queries) < 2:
            return [self._search_one(query, k) for query in queries]
        shares = [queries[first : first + _A_SHARE] for first in range(0, len(queries), _A_SHARE)]
        with ThreadPoolExecutor(min(self._threads, len(shares))) as pool:
            found = pool.map(lambda share: [self._search_one(query, k) for query in share], shares)
            return list(itertools.chain.from_iterable(found))

    def _search_one(self, query: str, k: int) -> list[Passage]:
        known = (self._vocabulary.get(word) for word in self._tokenizer(query))
        # In a fixed order, because sums of floats depend on it: the same words give the same scores, bit for bit.
        term_ids = sorted(term for term in known if term is not None)
        if not term_ids:
            return []
        return [self._passages.get(row, score) for row, score in zip(*self._best(term_ids, k), strict=True)]

    def _best(self, term_ids: list[int], k: int) -> tuple[list[int], list[float]]:
        """Return rows and scores of the ``k`` best passages."""
        if self._compiled is not None:
            return self._compiled.best(term_ids, k)
        scores = np.asarray(self._scorer.get_scores_from_ids(term_ids))
        rows = top_rows(scores, k)
        return rows.tolist(), scores[rows].tolist()
